package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Unlink removes a name of a file.
func (c *Connection) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return c.changeName(in.NodeId, name, func(d *inode) error { return c.fs.remove(d, name, false) })
}

// Rmdir removes a folder that shows nothing.
func (c *Connection) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return c.changeName(in.NodeId, name, func(d *inode) error { return c.fs.remove(d, name, true) })
}

// remove takes name out of d. The caller holds no lock.
func (fs *FS) remove(d *inode, name string, folder bool) error {
	if err := d.toUpper(metadataOnly); err != nil {
		return err
	}
	for {
		n, again, err := fs.tryRemove(d, name, folder)
		if !again {
			return err
		}
		// One name of a lower file with several goes: the others come to the upper, where they are counted.
		err = n.toUpper(metadataOnly)
		fs.unref(n, 1)
		if err != nil {
			return err
		}
	}
}

// tryRemove removes name, or returns the inode, with a reference, that has to be in the upper first.
func (fs *FS) tryRemove(d *inode, name string, folder bool) (_ *inode, again bool, _ error) {
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	n, err := fs.lookupLocked(d, name)
	if err != nil {
		return nil, false, err
	}
	switch {
	case folder && !n.isDir():
		err = unix.ENOTDIR
	case !folder && n.isDir():
		err = unix.EISDIR
	case !folder && n.hasLowerLinks():
		return n, true, nil
	case folder:
		err = fs.removeFolder(d, n, name)
	default:
		err = fs.removeFile(d, n, name)
	}
	fs.unref(n, 1)
	return nil, false, err
}

// hasLowerLinks reports whether the inode is a lower file with several names.
func (n *inode) hasLowerLinks() bool {
	if n.inUpper() {
		return false
	}
	a, err := n.lowerAttr()
	return err != nil || a.nlink > 1 // the copy-up says what is wrong
}

func (fs *FS) removeFile(d, n *inode, name string) error {
	below, err := d.peekLower(name)
	if err != nil {
		return err
	}
	dir, err := d.folderFD()
	if err != nil {
		return err
	}
	defer dir.release()
	keep, last := fs.keepOrphan(n, spot{dir: dir, name: name})
	if err := fs.upper.clear(spot{dir: dir, name: name}, n.inUpper(), len(below) > 0); err != nil {
		if keep != nil {
			keep.release()
		}
		return err
	}
	n.removed(d, name, keep, last)
	d.dir.unnote(name)
	return nil
}

// clear takes the entry at s out of the upper, where it is if inUpper says so, and leaves a whiteout if something below
// would show.
func (u *upper) clear(s spot, inUpper, whiteout bool) error {
	switch {
	case !whiteout:
		return unix.Unlinkat(s.dir.fd, s.name, 0)
	case !inUpper:
		return unix.Mknodat(s.dir.fd, s.name, unix.S_IFCHR, 0)
	}
	name, err := u.makeWhiteout()
	if err != nil {
		return err
	}
	if err := unix.Renameat(u.work.fd, name, s.dir.fd, s.name); err != nil {
		u.discard(name)
		return err
	}
	return nil
}

// keepOrphan opens the file at s, a name of which is about to go, so that those who have it still reach it, and reports
// whether it is the last name. There is none to open of a lower file.
func (fs *FS) keepOrphan(n *inode, s spot) (keep *descriptor, last bool) {
	n.mu.RLock()
	inUpper, known := n.upper, len(n.places)
	n.mu.RUnlock()
	if !inUpper {
		return nil, true
	}
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		return nil, known <= 1
	}
	last = st.Nlink <= 1
	if known > 1 && !last {
		return nil, false
	}
	// Beyond the bound of descriptors the file is lost to those who did not open it: ESTALE.
	keep, _ = fs.fds.wrapKept(s.openPath())
	return keep, last
}

// removed records that name in d is gone; keep is the file if it has no known name left.
func (n *inode) removed(d *inode, name string, keep *descriptor, last bool) {
	fs := n.fs
	n.mu.Lock()
	if keep != nil && n.orphan == nil {
		n.orphan, keep = keep, nil
	}
	n.gone = n.gone || last
	n.mu.Unlock()
	if keep != nil {
		keep.release()
	}
	if last {
		fs.table.remove(n)
		n.settle()
	}
	n.dropPlace(d, name)
}

// removeFolder removes the folder n at name in d, both held by nobody else: the caller holds d's names.
func (fs *FS) removeFolder(d, n *inode, name string) error {
	n.dir.names.Lock()
	defer n.dir.names.Unlock()
	if err := n.checkEmpty(); err != nil {
		return err
	}
	if n.isSandbox() {
		return unix.EROFS
	}
	below, err := d.peekLower(name)
	if err != nil {
		return err
	}
	dir, err := d.folderFD()
	if err != nil {
		return err
	}
	defer dir.release()
	keep := n.keepFolder()
	if err := fs.upper.clearFolder(spot{dir: dir, name: name}, n.inUpper(), len(below) > 0); err != nil {
		if keep != nil {
			keep.release()
		}
		return err
	}
	n.folderRemoved(keep)
	n.dropPlace(d, name)
	d.dir.unnote(name)
	return nil
}

// keepFolder holds the upper folder that is about to go, for those who are in it.
func (n *inode) keepFolder() *descriptor {
	if !n.inUpper() {
		return nil
	}
	keep, err := n.folderFD()
	if err != nil {
		return nil
	}
	return keep
}

// folderRemoved records that the folder has no name any more.
func (n *inode) folderRemoved(keep *descriptor) {
	n.mu.Lock()
	n.gone, n.orphan = true, keep
	n.mu.Unlock()
	n.dir.listing.drop()
	n.dir.listing = newListing(n.fs)
	n.fs.folder.forget(n)
	n.fs.table.remove(n)
}

// clearFolder takes a folder that shows nothing, but may hold whiteouts, out of the upper.
func (u *upper) clearFolder(s spot, inUpper, whiteout bool) error {
	if !inUpper {
		return unix.Mknodat(s.dir.fd, s.name, unix.S_IFCHR, 0)
	}
	if !whiteout {
		if err := unix.Unlinkat(s.dir.fd, s.name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
		name := u.temp()
		if err := unix.Renameat(s.dir.fd, s.name, u.work.fd, name); err != nil {
			return err
		}
		u.discard(name)
		return nil
	}
	name, err := u.makeWhiteout()
	if err != nil {
		return err
	}
	if err := unix.Renameat2(u.work.fd, name, s.dir.fd, s.name, unix.RENAME_EXCHANGE); err != nil {
		u.discard(name)
		return err
	}
	u.discard(name)
	return nil
}

// checkEmpty says ENOTEMPTY when the folder shows a name. The caller holds its names.
func (n *inode) checkEmpty() error {
	l, err := n.merge()
	if err != nil {
		return err
	}
	if len(l) > 0 {
		return unix.ENOTEMPTY
	}
	return nil
}
