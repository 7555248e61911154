// Package layers compares a real image as mica mounts it with what other programs make of the same layers: umoci, which flattens them,
// and the kernel's overlayfs over folders that GNU tar has unpacked.
package layers
