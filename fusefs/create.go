package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A newFile is what is to be made.
type newFile struct {
	own    owner
	umask  uint32
	xattrs []xattrPair // that it has from the start
	target []byte      // of a symbolic link
	flags  int         // the host flags of a regular file's descriptor
}

// create makes f at name in d. It returns its inode with a reference, and for a regular file an open descriptor. The caller
// holds the tree, and d is in the upper.
func (fs *FS) create(d *inode, name string, f newFile) (*inode, int, error) {
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	if d.isGone() {
		return nil, -1, unix.ENOENT
	}
	e, err := d.peekUpper(name)
	if err != nil {
		return nil, -1, err
	}
	below, err := d.peekLower(name)
	if err != nil {
		return nil, -1, err
	}
	if e.state == present || e.state == absent && len(below) > 0 {
		return nil, -1, unix.EEXIST
	}
	if err := d.inherit(&f.own); err != nil {
		return nil, -1, err
	}
	if err := d.inheritACL(&f); err != nil {
		return nil, -1, err
	}
	dir, err := d.folderFD()
	if err != nil {
		return nil, -1, err
	}
	defer dir.release()
	if err := fs.upper.limit.full(); err != nil {
		return nil, -1, err
	}
	made, err := fs.upper.makeAt(spot{dir: dir, name: name}, f, e.state == hidden)
	if err != nil {
		return nil, -1, err
	}
	return fs.created(d, name, f.own, made.ino), made.fd, nil
}

// created makes the inode of a file of that host inode number, which was just made at name in d.
func (fs *FS) created(d *inode, name string, own owner, host uint64) *inode {
	k := key{upperSpace, host}
	n := &inode{fs: fs, ino: stIno(k.space, k.ino), typ: own.mode & unix.S_IFMT, upper: true, host: host, names: 1, caps: no}
	if !fs.shared() {
		n.own, n.ownSet = own, true
	}
	if n.isDir() {
		n.dir = &folder{opaque: true}
		n.dir.whFiles.Store(int32(no))
	}
	// A host inode number that comes back belonged to a file that is gone.
	if old := fs.table.get(k); old != nil {
		fs.table.remove(old)
		fs.unref(old, 1)
	}
	n = fs.table.intern(k, n)
	n.addPlace(d, name)
	d.dir.note(name, n)
	return n
}

// inherit gives a new file its folder's group where the folder is setgid, as every filesystem does.
func (d *inode) inherit(o *owner) error {
	of, err := d.knownOwner()
	if err != nil {
		return err
	}
	if of.mode&unix.S_ISGID == 0 {
		return nil
	}
	o.gid = of.gid
	if o.mode&unix.S_IFMT == unix.S_IFDIR {
		o.mode |= unix.S_ISGID
	}
	return nil
}

// A madeFile is a new host file.
type madeFile struct {
	fd  int // of a regular file; else -1
	ino uint64
}

func (m madeFile) close() {
	if m.fd >= 0 {
		_ = unix.Close(m.fd)
	}
}

// makeAt makes f at s, where there is nothing or a whiteout. What one system call cannot make whole is made in the work
// folder and renamed, so that no crash leaves half of it.
func (u *upper) makeAt(s spot, f newFile, overWhiteout bool) (made madeFile, err error) {
	if !overWhiteout && len(f.xattrs) == 0 && u.plain(f.own) {
		if made.fd, err = makeHost(s.dir.fd, s.name, f, u.owners.hostMode(f.own.mode)); err != nil {
			return made, err
		}
		if made.ino, err = u.finish(s, f.own); err != nil {
			u.unmake(s, f.own.mode, false)
			made.close()
		}
		return made, err
	}
	name := u.temp()
	work := spot{dir: u.work, name: name}
	made, err = u.makeWork(work, f, overWhiteout)
	if err == nil {
		err = u.publish(work, s, f.own.mode, overWhiteout)
	}
	if err != nil {
		u.discard(name)
		made.close()
	}
	return made, err
}

// plain reports whether one system call makes a file of o.
func (u *upper) plain(o owner) bool {
	kind := o.mode & unix.S_IFMT
	if u.owners.real {
		return o.uid == u.owners.uid && o.gid == u.owners.gid && o.mode&0o7000 == 0 && (kind == unix.S_IFREG || kind == unix.S_IFDIR)
	}
	return u.owners.plain(o)
}

// finish corrects what the host made of a plain file: a setgid host folder gives its group, an ACL another mode. It gives the
// file's inode number.
func (u *upper) finish(s spot, o owner) (uint64, error) {
	var st unix.Stat_t
	err := s.stat(&st)
	if err == nil && (u.owners.shown(&st) != o || st.Mode&0o7777 != u.owners.hostMode(o.mode)) {
		err = u.owners.write(s, &st, o)
	}
	return st.Ino, err
}

// unmake takes back what makeAt made.
func (u *upper) unmake(s spot, mode uint32, overWhiteout bool) {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		_ = u.clearFolder(s, true, overWhiteout)
		return
	}
	_ = u.clear(s, true, overWhiteout)
}

func (u *upper) makeWork(work spot, f newFile, overWhiteout bool) (made madeFile, err error) {
	made.fd = -1
	switch f.own.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		made.fd, err = makeHost(u.work.fd, work.name, f, 0o700)
	default:
		err = u.makeSpecial(work.name, f.own, f.target)
	}
	if err != nil {
		return made, err
	}
	var st unix.Stat_t
	if err := work.stat(&st); err != nil {
		return made, err
	}
	made.ino = st.Ino
	if err := u.dress(work, &st, f); err != nil {
		return made, err
	}
	if overWhiteout && f.own.mode&unix.S_IFMT == unix.S_IFDIR {
		return made, u.setOpaque(work)
	}
	return made, nil
}

// dress gives the new host file at s, whose stat is st, the owner and the attributes of f.
func (u *upper) dress(s spot, st *unix.Stat_t, f newFile) error {
	if err := u.owners.write(s, st, f.own); err != nil {
		return err
	}
	for _, x := range f.xattrs {
		host, err := u.owners.hostXattr(x.name)
		if err == nil {
			err = u.setXattr(s, host, x.value, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeHost makes a regular file or a folder.
func makeHost(dir int, name string, f newFile, mode uint32) (int, error) {
	if f.own.mode&unix.S_IFMT == unix.S_IFDIR {
		return -1, unix.Mkdirat(dir, name, mode)
	}
	return openBeneath(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|f.flags, mode)
}

// makeSpecial makes a symbolic link, device, fifo or socket in the work folder: a regular file that override_stat will call
// one (a link's target is its contents), or the real thing in an upper that keeps those.
func (u *upper) makeSpecial(name string, o owner, target []byte) error {
	if u.owners.real {
		if o.mode&unix.S_IFMT == unix.S_IFLNK {
			return unix.Symlinkat(string(target), u.work.fd, name)
		}
		if o.mode&unix.S_IFMT == unix.S_IFCHR && o.rdev == 0 {
			return unix.EPERM // it would be a whiteout
		}
		return unix.Mknodat(u.work.fd, name, o.mode&unix.S_IFMT|0o600, int(o.rdev))
	}
	fd, err := openBeneath(u.work.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(target) > 0 {
		n, err := unix.Write(fd, target)
		if err != nil {
			return err
		}
		target = target[n:]
	}
	return nil
}

// publish moves a finished work file to where it belongs.
func (u *upper) publish(work, to spot, mode uint32, overWhiteout bool) error {
	switch {
	case !overWhiteout:
		return unix.Renameat2(work.dir.fd, work.name, to.dir.fd, to.name, unix.RENAME_NOREPLACE)
	case mode&unix.S_IFMT != unix.S_IFDIR && !u.hasWhPrefix(to):
		return unix.Renameat(work.dir.fd, work.name, to.dir.fd, to.name)
	case u.hasWhPrefix(to):
		if err := unix.Renameat2(work.dir.fd, work.name, to.dir.fd, to.name, unix.RENAME_NOREPLACE); err != nil {
			return err
		}
		return unix.Unlinkat(to.dir.fd, whPrefix+to.name, 0)
	}
	// A folder cannot replace a whiteout, but change places with it.
	if err := unix.Renameat2(work.dir.fd, work.name, to.dir.fd, to.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	u.discard(work.name)
	return nil
}

// hasWhPrefix reports whether the whiteout at s is one of fuse-overlayfs's: a file beside it.
func (u *upper) hasWhPrefix(s spot) bool {
	return u.cfg.RealOwners && existsAt(s.dir.fd, whPrefix+s.name)
}

// setOpaque marks the folder at s. Container storage looks for trusted.overlay.opaque where it runs as root.
func (u *upper) setOpaque(s spot) error {
	if err := s.setxattr(opaqueXattr, []byte("y"), 0); err != nil {
		return err
	}
	if u.cfg.RealOwners {
		if err := s.setxattr("trusted.overlay.opaque", []byte("y"), 0); err != nil && !isNoXattr(err) {
			return err
		}
	}
	return nil
}

func (n *inode) isGone() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.gone
}

// make answers a request for a new entry.
func (c *Connection) make(id uint64, name string, f newFile, out *fuse.EntryOut) fuse.Status {
	return c.changeName(id, name, func(d *inode) error {
		n, fd, err := c.makeIn(d, name, f)
		if err != nil {
			return err
		}
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		return c.answer(d, n, out)
	})
}

func (c *Connection) makeIn(d *inode, name string, f newFile) (*inode, int, error) {
	if err := c.full(); err != nil {
		return nil, -1, err
	}
	if err := d.toUpper(metadataOnly); err != nil {
		return nil, -1, err
	}
	c.fs.tree.RLock()
	defer c.fs.tree.RUnlock()
	return c.fs.create(d, name, f)
}

// Mknod makes a file of any type but a folder or a link.
func (c *Connection) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	o := c.callerOwner(&in.InHeader, in.Mode&(unix.S_IFMT|0o7777))
	switch o.mode & unix.S_IFMT {
	case 0:
		o.mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		o.rdev = in.Rdev
	default:
		return fuse.EINVAL
	}
	return c.make(in.NodeId, name, newFile{own: o, umask: in.Umask}, out)
}

// Mkdir makes a folder.
func (c *Connection) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	o := c.callerOwner(&in.InHeader, unix.S_IFDIR|in.Mode&0o7777)
	return c.make(in.NodeId, name, newFile{own: o, umask: in.Umask}, out)
}

// Symlink makes a symbolic link.
func (c *Connection) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if len(target) == 0 || len(target) > 4095 {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	o := c.callerOwner(in, unix.S_IFLNK|0o777)
	return c.make(in.NodeId, name, newFile{own: o, target: []byte(target)}, out)
}

// Create makes a regular file and opens it.
func (c *Connection) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	st := c.changeName(in.NodeId, name, func(d *inode) error {
		f := newFile{
			own:   c.callerOwner(&in.InHeader, unix.S_IFREG|in.Mode&0o7777),
			umask: in.Umask,
			flags: int(in.Flags & (unix.O_SYNC | unix.O_DSYNC)),
		}
		n, fd, err := c.makeIn(d, name, f)
		if err != nil {
			return err
		}
		return c.answerOpen(d, n, fd, in, out)
	})
	if st != fuse.Status(unix.EEXIST) || in.Flags&unix.O_EXCL != 0 {
		return st
	}
	return c.openExisting(cancel, in, name, out)
}

// answerOpen answers with a new file, whose reference and descriptor it takes over.
func (c *Connection) answerOpen(d, n *inode, fd int, in *fuse.CreateIn, out *fuse.CreateOut) error {
	backing, err := c.fs.fds.wrapKept(fd, nil)
	if err != nil {
		c.fs.unref(n, 1)
		return err
	}
	h := &handle{inode: n, flags: in.Flags, write: in.Flags&unix.O_ACCMODE != unix.O_RDONLY, current: true, backing: backing}
	id, err := c.addHandle(h)
	if err != nil {
		c.fs.unref(n, 1)
		return err
	}
	c.fs.tree.RLock()
	defer c.fs.tree.RUnlock()
	if err := c.answer(d, n, &out.EntryOut); err != nil {
		c.handles.remove(id).close()
		return err
	}
	c.answerOpened(h, id, &out.OpenOut)
	return nil
}

// openExisting is for a name that somebody else has made since the client looked.
func (c *Connection) openExisting(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	header := in.InHeader
	if st := c.Lookup(cancel, &header, name, &out.EntryOut); !st.Ok() {
		return st
	}
	if out.NodeId == 0 {
		return fuse.ENOENT
	}
	open := fuse.OpenIn{InHeader: header, Flags: in.Flags, Mode: in.OpenFlags}
	open.NodeId = out.NodeId
	st := c.Open(cancel, &open, &out.OpenOut)
	if !st.Ok() {
		c.Forget(out.NodeId, 1)
	}
	return st
}
