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
		for emitted := false; !emitted; {
			if err := c.ensureListing(d, in.Offset == 0); err != nil {
				return err
			}
			var err error
			if emitted, err = c.emitFrom(d, in.Offset, out, plus); err != nil {
				return err
			}
		}
		if len(out.Bytes()) == 0 {
			d.letGo()
		}
		return nil
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

// emitFrom writes the entries from an offset on, as many as there is room for. It is false when the listing is gone.
func (c *Connection) emitFrom(d *inode, offset uint64, out *fuse.DirEntryList, plus bool) (bool, error) {
	d.dir.names.RLock()
	defer d.dir.names.RUnlock()
	if d.dir.listing == nil {
		return false, nil
	}
	l, emit := d.dir.listing, c.emit
	if plus {
		emit = c.emitPlus
	}
	for cookie := offset + 1; cookie < firstCookie && cookie > offset; cookie++ {
		if !emitDots(d, cookie, out, plus) {
			return true, nil
		}
	}
	for i := l.from(offset); i < len(l.entries); i++ {
		e := &l.entries[i]
		if e.name == "" {
			continue
		}
		more, err := emit(d, e, out)
		if err != nil && err != unix.ENOENT && err != unix.ESTALE {
			return true, err
		}
		if err == nil && !more {
			return true, nil
		}
	}
	return true, nil
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
	return out.AddDirEntry(e.with(ino, kind)), nil
}

// emitPlus is emit with the entry's attributes. An entry without attributes is node 0, which nobody has to remember.
func (c *Connection) emitPlus(d *inode, e *listEntry, out *fuse.DirEntryList) (bool, error) {
	full := c.full()
	var room [4]lowerNode
	f, err := d.listed(e, room[:0])
	if err != nil {
		return true, err
	}
	s, ok, err := stubOf(&f)
	if err != nil {
		return true, err
	}
	if ok {
		entry := out.AddDirLookupEntry(e.with(stIno(s.key.space, s.key.ino), s.attr.mode))
		if entry == nil {
			return false, nil
		}
		if c.enterStub(d, &s, full, entry) == errNoStub {
			_ = c.enterFound(d, e.name, &f, full, entry)
		}
		return true, nil
	}
	n, err := c.fs.intern(d, e.name, &f)
	if err != nil {
		return true, err
	}
	if err := c.admit(n, full); err != nil {
		return out.AddDirLookupEntry(e.with(n.ino, n.typ)) != nil, nil
	}
	a, err := n.stat()
	if err != nil {
		c.fs.unref(n, 1)
		return true, err
	}
	entry := out.AddDirLookupEntry(e.with(n.ino, n.typ))
	if entry == nil {
		c.fs.unref(n, 1)
		return false, nil
	}
	c.fill(n.ino, &a, &entry.Attr)
	c.enter(d, n, entry)
	return true, nil
}

// listed is find of an entry of the listing: a file that only layers have is what the listing says.
func (d *inode) listed(e *listEntry, room []lowerNode) (found, error) {
	if p, ok := d.listedBelow(e); ok {
		return found{parts: append(room, p)}, nil
	}
	return d.find(e.name, room)
}

func (d *inode) listedBelow(e *listEntry) (lowerNode, bool) {
	space := uint32(e.ino >> layerShift)
	if e.kind == 0 || e.kind == unix.S_IFDIR || space == upperSpace || int(space) > len(d.fs.layers) || d.inUpper() || d.syntheticNode() != nil {
		return lowerNode{}, false
	}
	l, indexed := d.fs.layerOf(space).(*indexedLower)
	return lowerNode{layer: l, ino: e.ino & inoMask, mode: e.kind}, indexed
}

// with is the entry as it is answered.
func (e *listEntry) with(ino uint64, mode uint32) fuse.DirEntry {
	return fuse.DirEntry{Name: e.name, Ino: ino, Mode: mode, Off: e.cookie}
}
