package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Tmpfile makes a file without a name (O_TMPFILE), which Link may name.
func (c *Connection) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return c.change(in.NodeId, func(d *inode) error {
		if !d.isDir() {
			return unix.ENOTDIR
		}
		if err := d.toUpper(metadataOnly); err != nil {
			return err
		}
		own := c.callerOwner(&in.InHeader, unix.S_IFREG|in.Mode&0o7777)
		n, fd, err := c.makeNameless(d, newFile{own: own, umask: in.Umask})
		if err != nil {
			return err
		}
		return c.answerOpen(d, n, fd, in, out)
	})
}

func (c *Connection) makeNameless(d *inode, f newFile) (*inode, int, error) {
	if err := c.full(); err != nil {
		return nil, -1, err
	}
	fs, u := c.fs, c.fs.upper
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	if err := d.inherit(&f.own); err != nil {
		return nil, -1, err
	}
	if err := d.inheritACL(&f); err != nil {
		return nil, -1, err
	}
	fd, err := openBeneath(u.work.fd, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return nil, -1, err
	}
	n, err := fs.nameless(fd, f)
	if err != nil {
		_ = unix.Close(fd)
		return nil, -1, err
	}
	return n, fd, nil
}

// nameless makes the inode of the nameless file fd, which stays reachable by a descriptor of the inode's own.
func (fs *FS) nameless(fd int, f newFile) (*inode, error) {
	orphan, err := fs.fds.wrapKept(unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0))
	if err != nil {
		return nil, err
	}
	s := spot{dir: orphan}
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		orphan.release()
		return nil, err
	}
	if err := fs.upper.dress(s, &st, f); err != nil {
		orphan.release()
		return nil, err
	}
	n := &inode{
		fs: fs, ino: stIno(upperSpace, st.Ino), typ: unix.S_IFREG, upper: true, host: st.Ino, own: f.own, ownSet: !fs.shared(),
		orphan: orphan, gone: true, caps: no, refs: 1,
	}
	n.weigh()
	return n, nil
}
