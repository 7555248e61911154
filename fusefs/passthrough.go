package fusefs

import (
	"sync"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// passthrough has a client's kernel read, write and map files of the upper itself, on the file that it is given at OPEN. The kernel
// lets the opens of one inode be of one kind: all through to one file, or none. So a file that is open otherwise, as one is which was
// opened for reading before its copy-up, stays so until all have closed it. What is in the upper stays the same file. No layer's file is handed out:
// the kernel would let the client write to it. Nor is one with a set-ID bit, which the kernel leaves to the server to drop when it
// writes; a file that gets the bit while it is open goes on being passed through, and keeps it.
type passthrough struct {
	mu     sync.Mutex
	inodes map[*inode]*openKinds
}

// openKinds counts the opens of one inode that the kernel has not released.
type openKinds struct {
	through, otherwise int
	backing            int32 // the kernel's number for the file, while there are opens through to it
}

type openKind uint8

const (
	uncounted openKind = iota // not by a client that passes through
	through
	otherwise
)

// answerOpened fills in the reply to an open, which is the handle id.
func (c *Connection) answerOpened(h *handle, id uint64, out *fuse.OpenOut) {
	out.Fh, out.OpenFlags = id, c.openFlags(h.inode)
	if !c.profile.passthrough {
		return
	}
	if h.kind, out.BackingID = c.passthrough.open(h, c.device.Load()); h.kind == through {
		out.OpenFlags = fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH
	} else {
		out.OpenFlags &^= fuse.FOPEN_KEEP_CACHE // the file may have been written past the pages that the kernel has
	}
}

func (p *passthrough) open(h *handle, d *device) (openKind, int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.inodes[h.inode]
	if k == nil {
		if p.inodes == nil {
			p.inodes = make(map[*inode]*openKinds)
		}
		k = &openKinds{}
		p.inodes[h.inode] = k
	}
	if k.through == 0 && k.otherwise == 0 && h.current && !h.inode.isSetID() {
		if id, err := d.openBacking(h.backing); err == nil {
			k.backing, k.through = id, 1
			return through, id
		} // else the file is on a stacked filesystem, or the client is not root's
	}
	if k.through > 0 {
		k.through++
		return through, k.backing
	}
	k.otherwise++
	return otherwise, 0
}

// isSetID reports whether the file has a set-ID bit, or may have. The caller holds the tree.
func (n *inode) isSetID() bool {
	own, err := n.knownOwner()
	return err != nil || own.mode&(unix.S_ISUID|unix.S_ISGID) != 0
}

// closed is told of each handle that the kernel has released.
func (p *passthrough) closed(h *handle, d *device) {
	if h.kind == uncounted {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.inodes[h.inode]
	if h.kind == otherwise {
		k.otherwise--
	} else if k.through--; k.through == 0 {
		d.closeBacking(k.backing)
	}
	if k.through == 0 && k.otherwise == 0 {
		delete(p.inodes, h.inode)
	}
}

// FUSE_DEV_IOC_BACKING_OPEN and _CLOSE of Linux's include/uapi/linux/fuse.h.
const (
	iocBackingOpen  = 0x4010e501
	iocBackingClose = 0x4004e502
)

// openBacking has the kernel keep a file to pass through to.
func (d *device) openBacking(file *descriptor) (int32, error) {
	if d == nil || !d.fd.hold() {
		return 0, unix.ENODEV
	}
	defer d.fd.release()
	m := fuse.BackingMap{Fd: int32(file.fd)}
	id, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd.fd), iocBackingOpen, uintptr(unsafe.Pointer(&m)))
	if errno != 0 {
		return 0, errno
	}
	return int32(id), nil
}

// closeBacking is for when no open refers to the file any more; when the mount has gone, so has the number.
func (d *device) closeBacking(id int32) {
	if !d.fd.hold() {
		return
	}
	defer d.fd.release()
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd.fd), iocBackingClose, uintptr(unsafe.Pointer(&id)))
}
