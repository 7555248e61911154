package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Link gives a file another name.
func (c *Connection) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return c.changeName(in.NodeId, name, func(d *inode) error {
		n, err := c.node(in.Oldnodeid)
		if err != nil {
			return err
		}
		if n.isDir() || n.isSandbox() {
			return unix.EPERM
		}
		if err := c.full(); err != nil {
			return err
		}
		if err := n.toUpper(metadataOnly); err != nil {
			return err
		}
		if err := d.toUpper(metadataOnly); err != nil {
			return err
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		if err := c.fs.link(n, d, name); err != nil {
			return err
		}
		c.fs.table.ref(n)
		return c.answer(d, n, out)
	})
}

// link names n, which is in the upper as d is.
func (fs *FS) link(n, d *inode, name string) error {
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	if d.isGone() {
		return unix.ENOENT
	}
	e, err := d.peekUpper(name)
	if err != nil {
		return err
	}
	if e.state == absent {
		below, err := d.peekLower(name)
		if err != nil {
			return err
		}
		if len(below) > 0 {
			return unix.EEXIST
		}
	}
	if e.state == present {
		return unix.EEXIST
	}
	dir, err := d.folderFD()
	if err != nil {
		return err
	}
	defer dir.release()
	s, err := n.spot()
	if err != nil {
		return err
	}
	defer s.release()
	if err := fs.upper.linkAt(s, spot{dir: dir, name: name}, e.state == hidden); err != nil {
		return err
	}
	n.linked(d, name)
	return nil
}

// linked records that n is at name in d as well.
func (n *inode) linked(d *inode, name string) {
	n.addPlace(d, name)
	n.mu.Lock()
	n.names++
	orphan := n.orphan
	n.orphan = nil
	n.mu.Unlock()
	if orphan != nil {
		// It has a name again, and by that name it is found from now on.
		var st unix.Stat_t
		if (spot{dir: orphan}).stat(&st) == nil {
			n.fs.table.alias(key{upperSpace, st.Ino}, n)
		}
		orphan.release()
	}
	d.dir.note(name, n)
}

// linkAt links the host file at from to the name to, over a whiteout if there is one.
func (u *upper) linkAt(from, to spot, overWhiteout bool) error {
	if !overWhiteout {
		return linkHost(from, to)
	}
	work := spot{dir: u.work, name: u.temp()}
	if err := linkHost(from, work); err != nil {
		return err
	}
	if err := u.publish(work, to, unix.S_IFREG, true); err != nil {
		u.discard(work.name)
		return err
	}
	return nil
}

func linkHost(from, to spot) error {
	if from.name != "" {
		return unix.Linkat(from.dir.fd, from.name, to.dir.fd, to.name, 0)
	}
	return unix.Linkat(unix.AT_FDCWD, from.path(), to.dir.fd, to.name, unix.AT_SYMLINK_FOLLOW)
}
