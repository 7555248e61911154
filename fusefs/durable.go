package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Fsync makes a file durable, its names too: not every filesystem does both at once.
func (c *Connection) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if c.volatile() {
		return fuse.ENOSYS
	}
	return c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		if !h.inode.inUpper() {
			return nil
		}
		sync := unix.Fsync
		if in.FsyncFlags&1 != 0 {
			sync = unix.Fdatasync
		}
		f := func() error { return sync(d.fd) }
		if !h.current { // its contents are below, but its attributes are not
			f = h.inode.syncAttributes
		}
		if err := ignoringEINTR(f); err != nil {
			return err
		}
		return h.inode.syncNames()
	})
}

// FsyncDir makes a folder's names durable.
func (c *Connection) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if c.volatile() {
		return fuse.ENOSYS
	}
	return c.with(in.NodeId, func(d *inode) error {
		if !d.isDir() {
			return unix.ENOTDIR
		}
		if !d.inUpper() {
			return nil
		}
		if err := d.syncFolder(); err != nil {
			return err
		}
		return d.syncNames()
	})
}

// volatile reports whether fsync has nothing to do; the client need not ask again.
func (c *Connection) volatile() bool { return c.fs.upper != nil && c.fs.upper.cfg.Volatile }

// syncNames makes the inode's names durable, and those of the folders it is in, as far as they may not be.
func (n *inode) syncNames() error {
	n.mu.RLock()
	names, dirty := n.names, n.durable < n.names
	places := append([]place(nil), n.places...)
	n.mu.RUnlock()
	if !dirty {
		return nil
	}
	for _, p := range places {
		err := p.parent.syncFolder()
		if err == nil {
			err = p.parent.syncNames()
		}
		if err != nil {
			return err
		}
	}
	// Not before: another fsync must not believe it while it is under way.
	n.mu.Lock()
	n.durable = max(n.durable, names)
	n.mu.Unlock()
	return nil
}

// syncAttributes makes the upper's file durable, whatever is in it.
func (n *inode) syncAttributes() error {
	n.fs.tree.RLock()
	s, err := n.spot()
	n.fs.tree.RUnlock()
	if err != nil {
		return err
	}
	defer s.release()
	return syncSpot(s)
}

func (n *inode) syncFolder() error {
	n.fs.tree.RLock()
	d, err := n.folderFD()
	n.fs.tree.RUnlock()
	if err != nil {
		return err
	}
	defer d.release()
	return syncSpot(spot{dir: d})
}
