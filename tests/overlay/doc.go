// Package overlay tests mica overlay as its users call it: under its own name, through links named fuse-overlayfs and mount.fuse.mica, by
// mount(8), as root, and as root of an ordinary user's namespace.
package overlay
