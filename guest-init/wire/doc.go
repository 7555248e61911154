// Package wire is all that host and guest share: the frames of the control port and the boot message.
package wire
