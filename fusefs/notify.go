package fusefs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// forgetInode has the kernel forget a node's attributes and contents, of a folder its listing.
func (d *device) forgetInode(node uint64) error {
	// struct fuse_notify_inval_inode_out: node, and a range of which 0, 0 is all.
	body := binary.NativeEndian.AppendUint64(nil, node)
	return d.notify(-fuse.NOTIFY_INVAL_INODE, append(body, make([]byte, 16)...))
}

// forgetEntry has the kernel forget that name is, or is not, in the folder of a node.
func (d *device) forgetEntry(node uint64, name string) error {
	// struct fuse_notify_inval_entry_out: node, length of the name, flags; then the name.
	body := binary.NativeEndian.AppendUint64(nil, node)
	body = binary.NativeEndian.AppendUint32(body, uint32(len(name)))
	body = binary.NativeEndian.AppendUint32(body, 0)
	return d.notify(-fuse.NOTIFY_INVAL_ENTRY, append(append(body, name...), 0))
}

// notify tells the kernel what it has not asked for: a reply to request 0 that has a code in the place of the error (enum
// fuse_notify_code of Linux's include/uapi/linux/fuse.h). It waits for requests that are being answered: the caller holds no lock.
func (d *device) notify(code int32, body []byte) error {
	if !d.fd.hold() {
		return unix.ENODEV
	}
	defer d.fd.release()
	message := binary.NativeEndian.AppendUint32(nil, uint32(outHeaderSize+len(body)))
	message = binary.NativeEndian.AppendUint32(message, uint32(code))
	message = binary.NativeEndian.AppendUint64(message, 0)
	_, err := unix.Write(d.fd.fd, append(message, body...))
	return err
}
