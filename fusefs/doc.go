// Package fusefs is the union: image layers, a synthetic layer and a writable upper as one live filesystem, served over FUSE to any number of front ends at once.
package fusefs
