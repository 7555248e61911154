// Package differential does the same random operations on mica's union and on kernel overlayfs over the same layers, and compares each result
// and the trees that come out. What may differ is in allowed.go, each with its reason. A difference is shrunk to the few operations and
// files that show it, printed as Go; those that were found so are the cases of regressions_test.go.
package differential
