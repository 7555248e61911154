package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Fsync makes a file durable, its names too: not every filesystem does both at once.
func (c *Connection) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		if !h.inode.inUpper() {
			return nil
		}
		sync := unix.Fsync
		if in.FsyncFlags&1 != 0 {
			sync = unix.Fdatasync
		}
		if h.current {
			if err := ignoringEINTR(func() error { return sync(d.fd) }); err != nil {
				return err
			}
		}
		return h.inode.syncNames()
	})
}

// FsyncDir makes a folder's names durable.
func (c *Connection) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
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

// syncNames makes the inode's names durable, and those of the folders it is in, as far as they may not be.
func (n *inode) syncNames() error {
	n.mu.Lock()
	dirty := n.unnamed
	n.unnamed = false
	places := append([]place(nil), n.places...)
	n.mu.Unlock()
	if !dirty {
		return nil
	}
	for _, p := range places {
		err := p.parent.syncFolder()
		if err == nil {
			err = p.parent.syncNames()
		}
		if err != nil {
			n.mu.Lock()
			n.unnamed = true
			n.mu.Unlock()
			return err
		}
	}
	return nil
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
