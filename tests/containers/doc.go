// Package containers has buildah and podman use mica as the mount_program of container storage, as root and as an ordinary user, and
// compares what they build with what they build on kernel overlayfs.
package containers
