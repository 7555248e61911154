// Package mount mounts the same layers as mica's union and as kernel overlayfs, for tests that use the two side by side. Mica's server is
// a process of its own, the test program run again: a process that maps a file which it serves itself can hang for good.
package mount
