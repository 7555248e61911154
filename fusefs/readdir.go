package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// OpenDir opens a folder. The handle holds nothing: an offset says where to go on.
func (c *Connection) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return c.with(in.NodeId, func(n *inode) error {
		if !n.isDir() {
			return unix.ENOTDIR
		}
		if c.profile.noOpenDir {
			return unix.ENOSYS
		}
		if c.exclusive() && n.syntheticNode() == nil {
			out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
		}
		return nil
	})
}

// ReleaseDir has nothing to release.
func (c *Connection) ReleaseDir(*fuse.ReleaseIn) {}

// ReadDir lists a folder.
func (c *Connection) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.readFolder(in, out, false)
}

// ReadDirPlus lists a folder with each entry's attributes, which counts as a look-up.
func (c *Connection) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.readFolder(in, out, true)
}

func (c *Connection) readFolder(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	return c.with(in.NodeId, func(d *inode) error {
		if !d.isDir() {
			return unix.ENOTDIR
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		if err := c.ensureListing(d, in.Offset == 0); err != nil {
			return err
		}
		d.dir.names.RLock()
		defer d.dir.names.RUnlock()
		return c.emitAll(d, in.Offset, out, plus)
	})
}

// ensureListing makes the listing; at the start of a folder that others may change, anew.
func (c *Connection) ensureListing(d *inode, start bool) error {
	d.dir.names.RLock()
	fresh := d.dir.listing != nil && (!start || !d.fs.shared() && d.syntheticNode() == nil)
	d.dir.names.RUnlock()
	if fresh {
		return nil
	}
	if err := c.full(); err != nil {
		return err
	}
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	if d.isGone() {
		d.dir.listing.drop()
		d.dir.listing = newListing(d.fs)
		return nil
	}
	return d.list()
}

func (c *Connection) emitAll(d *inode, offset uint64, out *fuse.DirEntryList, plus bool) error {
	l, emit := d.dir.listing, c.emit
	if plus {
		emit = c.emitPlus
	}
	for cookie := offset + 1; cookie < firstCookie && cookie > offset; cookie++ {
		if !emitDots(d, cookie, out, plus) {
			return nil
		}
	}
	for i := l.from(offset); i < len(l.entries); i++ {
		e := &l.entries[i]
		if e.name == "" {
			continue
		}
		more, err := emit(d, e, out)
		if err != nil && err != unix.ENOENT && err != unix.ESTALE {
			return err
		}
		if err == nil && !more {
			return nil
		}
	}
	return nil
}

// emitDots writes "." (cookie 1) or ".." (cookie 2). With attributes they carry none: node 0.
func emitDots(d *inode, cookie uint64, out *fuse.DirEntryList, plus bool) bool {
	e := fuse.DirEntry{Name: ".", Ino: d.ino, Mode: unix.S_IFDIR, Off: cookie}
	if cookie == 2 {
		e.Name = ".."
		d.mu.RLock()
		if len(d.places) > 0 {
			e.Ino = d.places[0].parent.ino
		}
		d.mu.RUnlock()
	}
	if plus {
		return out.AddDirLookupEntry(e) != nil
	}
	return out.AddDirEntry(e)
}

// emit writes one entry of d, and is false when there is no more room.
func (c *Connection) emit(d *inode, e *listEntry, out *fuse.DirEntryList) (bool, error) {
	ino, kind := e.ino, e.kind
	if kind == 0 {
		n, err := c.fs.lookupLocked(d, e.name)
		if err != nil {
			return true, err
		}
		ino, kind = n.ino, n.typ
		c.fs.unref(n, 1)
	}
	return out.AddDirEntry(fuse.DirEntry{Name: e.name, Ino: ino, Mode: kind, Off: e.cookie}), nil
}

// emitPlus is emit with the entry's attributes.
func (c *Connection) emitPlus(d *inode, e *listEntry, out *fuse.DirEntryList) (bool, error) {
	full := c.full()
	n, err := c.fs.lookupLocked(d, e.name)
	if err != nil {
		return true, err
	}
	if err := c.admit(n, full); err != nil { // an entry without attributes is node 0, which nobody has to remember
		return out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Ino: n.ino, Mode: n.typ, Off: e.cookie}) != nil, nil
	}
	a, err := n.stat()
	if err != nil {
		c.fs.unref(n, 1)
		return true, err
	}
	entry := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Ino: n.ino, Mode: n.typ, Off: e.cookie})
	if entry == nil {
		c.fs.unref(n, 1)
		return false, nil
	}
	c.fill(n, &a, &entry.Attr)
	c.enter(d, n, entry)
	return true, nil
}
