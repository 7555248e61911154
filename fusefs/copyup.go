package fusefs

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// A copyLevel is how much of a file has to be in the upper.
type copyLevel int

const (
	metadataOnly copyLevel = iota // contents may stay below
	noContents                    // they are about to be truncated away
	wholeFile
)

// toUpper brings the inode, and the folders it is in, to the upper. The caller holds no lock.
func (n *inode) toUpper(level copyLevel) error {
	if n.isIn(level) {
		return nil
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	if n.isIn(level) {
		return nil
	}
	if n.inUpper() {
		return n.completeCopy(level)
	}
	if n.isDir() {
		if err := n.keepListing(); err != nil {
			return err
		}
		return n.copyUp(level)
	}
	if err := n.findGroup(); err != nil {
		return err
	}
	return n.copyUp(level)
}

func (n *inode) isIn(level copyLevel) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.upper && (level == metadataOnly || !n.meta)
}

// copyUp makes the copy in the work folder, whole, and then names it: a crash leaves the lower file or the upper one.
func (n *inode) copyUp(level copyLevel) error {
	if err := n.parentsToUpper(); err != nil {
		return err
	}
	u := n.fs.upper
	name := u.temp()
	c := copyUp{inode: n, name: name, work: spot{dir: u.work, name: name}}
	if err := c.make(level); err != nil {
		c.abandon()
		return err
	}
	if err := c.publish(); err != nil {
		c.abandon()
		return err
	}
	return nil
}

// publish names the copy. One that has several names takes the whole tree, so that nobody sees some of them.
func (c *copyUp) publish() error {
	n := c.inode
	n.fs.tree.RLock()
	n.mu.RLock()
	count := len(n.places)
	n.mu.RUnlock()
	if count <= 1 {
		defer n.fs.tree.RUnlock()
		return c.place()
	}
	n.fs.tree.RUnlock()
	n.fs.tree.Lock()
	defer n.fs.tree.Unlock()
	return c.place()
}

// abandon removes the work file.
func (c *copyUp) abandon() {
	u := c.inode.fs.upper
	u.limit.add(c.work, -1)
	u.discard(c.name)
}

// parentsToUpper brings all folders that name the inode to the upper. Those are not given back, so it stays so.
func (n *inode) parentsToUpper() error {
	n.mu.RLock()
	var parents []*inode
	for _, p := range n.places {
		parents = append(parents, p.parent)
	}
	n.mu.RUnlock()
	for _, p := range parents {
		if err := p.toUpper(metadataOnly); err != nil {
			return err
		}
	}
	return nil
}

// A copyUp is one copy being made.
type copyUp struct {
	inode *inode
	name  string
	work  spot
	meta  bool // contents stay below
	attr  attributes
	stat  unix.Stat_t
}

func (c *copyUp) make(level copyLevel) (err error) {
	n, u := c.inode, c.inode.fs.upper
	if c.attr, err = n.lowerAttr(); err != nil {
		return err
	}
	if err := c.makeFile(level); err != nil {
		return err
	}
	if err := n.copyXattrs(c.work); err != nil {
		return err
	}
	if err := c.work.setxattr(inoXattr, []byte(strconv.FormatUint(n.ino, 10)), 0); err != nil && !u.cfg.RealOwners {
		return err
	}
	if err := c.work.stat(&c.stat); err != nil {
		return err
	}
	if err := u.owners.write(c.work, &c.stat, c.attr.owner); err != nil {
		return err
	}
	if err := c.work.utimes([2]unix.Timespec{c.attr.atime, c.attr.mtime}); err != nil {
		return err
	}
	if n.typ == unix.S_IFREG && !c.meta && c.attr.size > 0 && level == wholeFile && !u.cfg.Volatile {
		return syncSpot(c.work)
	}
	return nil
}

// makeFile makes the work file with its contents.
func (c *copyUp) makeFile(level copyLevel) error {
	n, u := c.inode, c.inode.fs.upper
	o := c.attr.owner
	if n.isDir() {
		return unix.Mkdirat(u.work.fd, c.name, 0o700)
	}
	var target []byte
	if n.typ == unix.S_IFLNK {
		var err error
		if target, err = n.readlink(); err != nil {
			return err
		}
	}
	if n.typ != unix.S_IFREG {
		return u.makeSpecial(c.name, o, target)
	}
	fd, err := openBeneath(u.work.fd, c.name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch {
	case level == noContents || c.attr.size == 0:
		return nil
	case level == metadataOnly && n.canStayBelow():
		c.meta = true
		if err := n.markMetacopy(c.work); err != nil {
			return err
		}
		return unix.Ftruncate(fd, int64(c.attr.size))
	}
	return u.limit.change(fd, int64(c.attr.blocks*512), func() error { return n.copyContents(fd) })
}

// copyContents copies what is below into the file fd.
func (n *inode) copyContents(to int) error {
	n.mu.RLock()
	lowers := n.lowers
	n.mu.RUnlock()
	if len(lowers) == 0 {
		return unix.EIO
	}
	from, err := lowers[0].layer.open(lowers[0])
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return copyFile(from, to)
}

// copyFile makes the empty file to hold what from does: as a clone where the filesystem can, else by its data, so that
// holes stay holes.
func copyFile(from, to int) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Ftruncate(to, st.Size); err != nil {
		return err
	}
	for off := int64(0); off < st.Size; {
		data, err := unix.Seek(from, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			data = off
		}
		hole, err := unix.Seek(from, data, unix.SEEK_HOLE)
		if err != nil {
			hole = st.Size
		}
		if err := copyRange(from, to, data, hole); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

func copyRange(from, to int, start, end int64) error {
	for start < end {
		in, out := start, start
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(end-start, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
			return copyBytes(from, to, start, end)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		start += int64(n)
	}
	return nil
}

func copyBytes(from, to int, start, end int64) error {
	buf := make([]byte, 256<<10)
	for start < end {
		n, err := ignoringEINTR2(func() (int, error) {
			return unix.Pread(from, buf[:min(int64(len(buf)), end-start)], start)
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for done := 0; done < n; {
			k, err := ignoringEINTR2(func() (int, error) { return unix.Pwrite(to, buf[done:n], start+int64(done)) })
			if err != nil {
				return err
			}
			done += k
		}
		start += int64(n)
	}
	return nil
}

// place moves the finished copy to where the inode is. The caller holds the tree.
func (c *copyUp) place() error {
	n, u := c.inode, c.inode.fs.upper
	n.mu.RLock()
	places := append([]place(nil), n.places...)
	n.mu.RUnlock()
	if len(places) == 0 {
		return c.placeOrphan()
	}
	first := places[0]
	dir, err := first.parent.folderFD()
	if err != nil {
		return err
	}
	defer dir.release()
	first.parent.dir.names.Lock()
	defer first.parent.dir.names.Unlock()
	if len(places) > 1 {
		defer c.forgetLinks()
		if err := c.noteLinks(places[1:]); err != nil {
			return err
		}
	}
	for i, p := range places[1:] {
		if err := linkInto(c.work, p); err != nil {
			for _, p := range places[1 : i+1] {
				unlinkFrom(p)
			}
			return err
		}
	}
	err = keepTimes(dir, func() error {
		return unix.Renameat2(u.work.fd, c.name, dir.fd, first.name, unix.RENAME_NOREPLACE)
	})
	if err != nil {
		for _, p := range places[1:] {
			unlinkFrom(p)
		}
		return err
	}
	c.done()
	return nil
}

// done makes the inode one of the upper.
func (c *copyUp) done() {
	n := c.inode
	n.mu.Lock()
	n.upper, n.host, n.meta = true, c.stat.Ino, c.meta
	n.names++
	if !n.fs.shared() {
		n.own, n.ownSet = c.attr.owner, true
	}
	if !n.isDir() && !c.meta {
		n.lowers = nil
	}
	n.mu.Unlock()
	n.fs.table.alias(key{upperSpace, c.stat.Ino}, n)
}

// placeOrphan keeps the copy of a file that has no name any more, but is open.
func (c *copyUp) placeOrphan() error {
	n, u := c.inode, c.inode.fs.upper
	if n.isDir() {
		return unix.ENOENT
	}
	d, err := n.fs.fds.wrapKept(openBeneath(u.work.fd, c.name, unix.O_PATH, 0))
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.orphan = d
	n.mu.Unlock()
	c.done()
	n.fs.table.remove(n)
	return unix.Unlinkat(u.work.fd, c.name, 0)
}

// keepTimes runs f, which changes the names in dir, and puts back the times of dir: a copy-up is no change that shows. When
// that fails the names have changed all the same, so it is no error.
func keepTimes(dir *descriptor, f func() error) error {
	s := spot{dir: dir}
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	_ = s.utimes([2]unix.Timespec{st.Atim, st.Mtim})
	return nil
}

// linkInto gives the upper file at s the name p as well. The caller holds the whole tree.
func linkInto(s spot, p place) error {
	dir, err := p.parent.folderFD()
	if err != nil {
		return err
	}
	defer dir.release()
	return keepTimes(dir, func() error { return unix.Linkat(s.dir.fd, s.name, dir.fd, p.name, 0) })
}

func unlinkFrom(p place) {
	dir, err := p.parent.folderFD()
	if err != nil {
		return
	}
	defer dir.release()
	_ = keepTimes(dir, func() error { return unix.Unlinkat(dir.fd, p.name, 0) })
}

func syncSpot(s spot) error {
	fd, err := s.open(unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}
