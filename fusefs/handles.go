package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxHandles bounds what one client may have open at once.
const maxHandles = 1 << 16

// A handle is one open file or folder of one client.
type handle struct {
	inode *inode
	flags uint32
	write bool
	kind  openKind // guarded by Connection.passthrough

	mu      sync.Mutex
	backing *descriptor // nil: a folder
	current bool        // backing is the upper's file, which nothing replaces
}

type handleTable struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*handle
}

func (t *handleTable) add(h *handle) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil || len(t.open) >= maxHandles {
		return 0, unix.ENFILE
	}
	t.last++
	t.open[t.last] = h
	return t.last, nil
}

// get returns the handle id of the inode n: a forged id, or one of another file, is EBADF.
func (t *handleTable) get(id uint64, n *inode) (*handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[id]
	if h == nil || h.inode != n {
		return nil, unix.EBADF
	}
	return h, nil
}

func (t *handleTable) remove(id uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[id]
	delete(t.open, id)
	return h
}

func (t *handleTable) closeAll() {
	t.mu.Lock()
	all := t.open
	t.open = nil
	t.mu.Unlock()
	for _, h := range all {
		h.close()
	}
}

// close lets go of the backing file and of the inode.
func (h *handle) close() {
	h.mu.Lock()
	backing := h.backing
	h.backing = nil
	h.mu.Unlock()
	h.inode.closed()
	if backing != nil {
		h.inode.fs.open.remove(h.inode, backing)
		backing.release()
	}
	h.inode.fs.unref(h.inode, 1)
}

// hostFlags are the open flags that the host file gets: the way of access, and O_SYNC. Appending is the client's work, who
// knows the size, but for a volume, which others append to as well.
func (h *handle) hostFlags() int {
	mask := uint32(unix.O_ACCMODE | unix.O_SYNC | unix.O_DSYNC)
	if h.inode.fs.shared() {
		mask |= unix.O_APPEND
	}
	return int(h.flags & mask)
}

// data gives the descriptor that the file's contents are behind now, held for the caller: a reader that was there before
// the copy-up reads the upper's file afterwards. The caller does not hold the tree.
func (h *handle) data() (*descriptor, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.backing == nil {
		return nil, unix.EBADF
	}
	if !h.current && h.inode.contentsInUpper() {
		h.inode.fs.tree.RLock()
		d, err := h.inode.openContents(h.hostFlags())
		h.inode.fs.tree.RUnlock()
		if err != nil {
			return nil, err
		}
		h.backing.release()
		h.backing, h.current = d, true
	}
	h.backing.hold()
	return h.backing, nil
}

func (n *inode) contentsInUpper() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.upper && !n.meta
}

// openContents opens what holds the inode's contents. The caller holds the tree.
func (n *inode) openContents(flags int) (*descriptor, error) {
	n.mu.RLock()
	inUpper, lowers := n.upper && !n.meta, n.lowers
	n.mu.RUnlock()
	if !inUpper {
		if len(lowers) == 0 {
			return nil, unix.EIO
		}
		return n.fs.fds.wrapKept(lowers[0].layer.open(lowers[0]))
	}
	s, err := n.spot()
	if err != nil {
		return nil, err
	}
	defer s.release()
	return n.fs.fds.wrapKept(s.open(flags))
}

// open makes a handle. The inode's contents are in the upper already if it is for writing.
func (c *Connection) open(n *inode, flags uint32) (*handle, uint64, error) {
	h := &handle{inode: n, flags: flags, write: flags&unix.O_ACCMODE != unix.O_RDONLY, current: n.contentsInUpper()}
	d, err := n.openContents(h.hostFlags())
	if err != nil {
		return nil, 0, err
	}
	h.backing = d
	id, err := c.addHandle(h)
	return h, id, err
}

func (c *Connection) addHandle(h *handle) (uint64, error) {
	c.fs.table.ref(h.inode)
	h.inode.opened()
	if h.current {
		c.fs.open.add(h.inode, h.backing)
	}
	id, err := c.handles.add(h)
	if err != nil {
		h.close()
	}
	return id, err
}

// Open opens a regular file.
func (c *Connection) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return c.with(in.NodeId, func(n *inode) error {
		if n.typ != unix.S_IFREG {
			return unix.EPERM // the client opens devices, fifos and sockets itself
		}
		if c.profile.noOpen {
			return unix.ENOSYS
		}
		if in.Flags&unix.O_ACCMODE == unix.O_ACCMODE {
			return unix.EINVAL
		}
		if in.Flags&unix.O_ACCMODE != unix.O_RDONLY || in.Flags&unix.O_TRUNC != 0 {
			if c.readOnly || n.isSandbox() {
				return unix.EROFS
			}
			if err := c.openForWriting(n, in); err != nil {
				return err
			}
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		h, id, err := c.open(n, in.Flags)
		if err != nil {
			return err
		}
		c.answerOpened(h, id, out)
		return nil
	})
}

// openFlags say whether the client keeps the pages it has of the file.
func (c *Connection) openFlags(n *inode) uint32 {
	if c.exclusive() && !n.isSynthetic() {
		return fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	}
	return fuse.FOPEN_NOFLUSH
}

func (c *Connection) openForWriting(n *inode, in *fuse.OpenIn) error {
	if in.Flags&unix.O_TRUNC == 0 {
		return n.toUpper(wholeFile)
	}
	if err := n.toUpper(noContents); err != nil {
		return err
	}
	return n.atSpot(func(s spot) error {
		if err := n.truncate(s, 0); err != nil {
			return err
		}
		return n.dropPrivileges(s, in.Mode&fuse.OPEN_KILL_SUIDGID != 0)
	})
}

// Release ends a handle.
func (c *Connection) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := c.handles.remove(in.Fh); h != nil {
		c.passthrough.closed(h, c.device.Load())
		h.close()
	}
}

// Flush has nothing to do: writes reach the host file at once.
// The client need not ask again.
func (c *Connection) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
