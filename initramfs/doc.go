// Package initramfs writes the archive that a guest's kernel unpacks as its first root: guest-init and what it stands on. It is
// the same for every run, byte for byte; what differs from run to run comes over the control port.
package initramfs
