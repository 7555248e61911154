// Package programs runs real programs inside mica's mounts on the host, as root, and as an ordinary user inside unshare --map-auto
// --map-root-user.
package programs
