// Package wire is all that host and guest share: the frames of the control port and the boot message.
//
// A frame is an 8-byte header and a payload of at most MaxPayload bytes:
//
//	offset  size  field
//	0       1     type
//	1       3     reserved, zero
//	4       4     length of the payload, little endian
//
// One virtio-console port carries all of a run, in this order:
//
//	guest → host  Ready                   the port is open
//	host → guest  BootPart… Boot          a Boot in JSON, split: see WriteBoot
//	host → guest  Stdin… Close            within the window; Signal and Winsize at any time
//	guest → host  Stdout, Stderr, Credit  Close when nobody reads standard input any more
//	guest → host  Exit                    an Exit in JSON, after all output; file systems are synced
//	host → guest  Exit                    empty: it has been read, the guest powers off
//
// So that a signal is never stuck behind input that the command does not read, the host sends at most StdinWindow bytes
// of standard input that no Credit has acknowledged. In the other direction there is no window: the host reads frames all
// the time, and a reader of the command's output that is slow slows the command down, as a pipe would.
package wire
