package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// lowerAttr is what the layers say of the inode: of a folder, the topmost part that describes it.
func (n *inode) lowerAttr() (attributes, error) {
	n.mu.RLock()
	lowers := n.lowers
	n.mu.RUnlock()
	var first attributes
	for i, p := range lowers {
		a, err := p.layer.attr(p)
		if err != nil {
			return attributes{}, err
		}
		if !a.implied {
			return a, nil
		}
		if i == 0 {
			first = a
		}
	}
	if len(lowers) == 0 {
		return attributes{}, unix.ESTALE
	}
	return first, nil
}

// stat is what the inode is now. The caller holds the tree.
func (n *inode) stat() (attributes, error) {
	a, err := n.plainStat()
	if err == nil && n.fs.conns.live.Load() && n.isDir() {
		n.touchBySynthetic(&a)
	}
	return a, err
}

// plainStat is stat without what the synthetic layer changes.
func (n *inode) plainStat() (attributes, error) {
	if !n.inUpper() {
		a, err := n.lowerAttr()
		if err == nil && n.isDir() {
			a.nlink = 1
		}
		n.mu.RLock()
		if n.gone {
			a.nlink = 0
		}
		n.mu.RUnlock()
		return a, err
	}
	var a attributes
	err := n.nearbyDo(func(s spot) (err error) {
		a, err = n.statAt(s)
		return err
	})
	return a, err
}

func (n *inode) statAt(s spot) (attributes, error) {
	var x unix.Statx_t
	if err := unix.Statx(s.dir.fd, s.name, s.flags(), unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return attributes{}, err
	}
	st := statOf(&x)
	if !n.isHost(&st) && n != n.fs.root {
		return attributes{}, errMoved
	}
	own, err := n.owner(s, &st)
	if err != nil {
		return attributes{}, err
	}
	if own.mode&unix.S_IFMT != n.typ {
		return attributes{}, unix.ESTALE
	}
	a := attributes{
		owner: own, nlink: x.Nlink, size: x.Size, blocks: x.Blocks,
		atime: timespec(x.Atime), mtime: timespec(x.Mtime), ctime: timespec(x.Ctime), btime: timespec(x.Btime),
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	switch {
	case n.gone:
		a.nlink = 0
	case n.isDir():
		a.nlink = 1
	}
	if n.meta && len(n.lowers) > 0 {
		if low, err := n.lowers[0].layer.attr(n.lowers[0]); err == nil {
			a.blocks = low.blocks
		}
	}
	return a, nil
}

// owner gives the true owner of the upper inode at s. Nobody but mica changes it in an upper that is not shared.
func (n *inode) owner(s spot, st *unix.Stat_t) (owner, error) {
	w := n.fs.upper.owners
	if w.real {
		return w.shown(st), nil
	}
	n.mu.RLock()
	own, known := n.own, n.ownSet
	n.mu.RUnlock()
	if known {
		return own, nil
	}
	own, err := w.read(s, st)
	if err == nil && !n.fs.shared() {
		n.mu.Lock()
		n.own, n.ownSet = own, true
		n.mu.Unlock()
	}
	return own, err
}

// knownOwner is what stat shows of owner and mode, without the disk where nobody but mica changes them.
func (n *inode) knownOwner() (owner, error) {
	n.mu.RLock()
	own, known := n.own, n.upper && n.ownSet && !n.fs.upper.owners.unseen
	n.mu.RUnlock()
	if known {
		return own, nil
	}
	a, err := n.stat()
	return a.owner, err
}

// setOwner makes the upper inode at s, whose stat is st, be o.
func (n *inode) setOwner(s spot, st *unix.Stat_t, o owner) error {
	n.mu.Lock()
	n.ownSet = false
	n.mu.Unlock()
	if err := n.fs.upper.owners.write(s, st, o); err != nil {
		return err
	}
	if !n.fs.shared() {
		n.mu.Lock()
		n.own, n.ownSet = o, true
		n.mu.Unlock()
	}
	return nil
}

// GetAttr answers stat.
func (c *Connection) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return c.with(in.NodeId, func(n *inode) error { return c.getAttr(n, out) })
}

func (c *Connection) getAttr(n *inode, out *fuse.AttrOut) error {
	c.fs.tree.RLock()
	defer c.fs.tree.RUnlock()
	return c.answerAttr(n, out)
}

func (c *Connection) answerAttr(n *inode, out *fuse.AttrOut) error {
	a, err := n.stat()
	if err != nil {
		return err
	}
	c.fill(n.ino, &a, &out.Attr)
	out.SetTimeout(c.attrTimeout(n))
	return nil
}

// Statx answers stat with the birth time.
func (c *Connection) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return c.with(in.NodeId, func(n *inode) error {
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		a, err := n.stat()
		if err != nil {
			return err
		}
		timeout := c.attrTimeout(n)
		out.AttrValid, out.AttrValidNsec = uint64(timeout/1e9), uint32(timeout%1e9)
		out.Statx = fuse.Statx{
			Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Blksize: 4096, Nlink: a.nlink, Uid: c.view.UIDs.shown(a.uid), Gid: c.view.GIDs.shown(a.gid),
			Mode: uint16(a.mode), Ino: n.ino, Size: a.size, Blocks: a.blocks,
			Atime: sxTime(a.atime), Btime: sxTime(a.btime), Ctime: sxTime(a.ctime), Mtime: sxTime(a.mtime),
			RdevMajor: unix.Major(uint64(a.rdev)), RdevMinor: unix.Minor(uint64(a.rdev)),
		}
		return nil
	})
}

func sxTime(t unix.Timespec) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Sec), Nsec: uint32(t.Nsec)}
}

// SetAttr answers chmod, chown, truncate and utimensat.
func (c *Connection) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return c.change(in.NodeId, func(n *inode) error {
		size, resize := in.GetSize()
		if resize && n.typ != unix.S_IFREG {
			return unix.EINVAL
		}
		if size > 1<<63-1 {
			return unix.EFBIG
		}
		copied := wholeFile
		switch {
		case !resize:
			copied = metadataOnly
		case size == 0:
			copied = noContents
		}
		if err := n.toUpper(copied); err != nil {
			return err
		}
		in.Owner = fuse.Owner{Uid: c.view.UIDs.kept(in.Owner.Uid), Gid: c.view.GIDs.kept(in.Owner.Gid)}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		if err := n.setAttr(in); err != nil {
			return err
		}
		return c.answerAttr(n, out)
	})
}

func (n *inode) setAttr(in *fuse.SetAttrIn) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	s, err := n.spot()
	if err != nil {
		return err
	}
	defer s.release()
	if size, ok := in.GetSize(); ok {
		if err := n.truncate(s, int64(size)); err != nil {
			return err
		}
	}
	if err := n.setOwnerFrom(s, in); err != nil {
		return err
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		return s.utimes([2]unix.Timespec{
			timeFrom(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
			timeFrom(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
		})
	}
	return nil
}

func timeFrom(valid, set, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

// setOwnerFrom changes owner and mode, and drops the setuid bits and capabilities that the change costs. With
// HANDLE_KILLPRIV_V2 the kernel leaves that to the server: chown always costs them, truncate when the flag says so.
func (n *inode) setOwnerFrom(s spot, in *fuse.SetAttrIn) error {
	const owners = fuse.FATTR_UID | fuse.FATTR_GID
	_, resize := in.GetSize()
	killCaps := !n.isDir() && (in.Valid&owners != 0 || resize)
	killBits := !n.isDir() && (in.Valid&owners != 0 || in.Valid&fuse.FATTR_KILL_SUIDGID != 0)
	if killCaps {
		if err := n.dropCapability(s); err != nil {
			return err
		}
	}
	if in.Valid&(owners|fuse.FATTR_MODE) == 0 && !killBits {
		return nil
	}
	var st unix.Stat_t
	o, err := n.ownerOf(s, &st)
	if err != nil {
		return err
	}
	was := o
	if killBits {
		o.mode = withoutSetID(o.mode)
	}
	if mode, ok := in.GetMode(); ok {
		o.mode = o.mode&unix.S_IFMT | mode
	}
	if uid, ok := in.GetUID(); ok {
		o.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		o.gid = gid
	}
	if o.mode != was.mode {
		if err := n.chmodACL(s, o.mode); err != nil {
			return err
		}
	}
	if o == was {
		return s.utimes([2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}})
	}
	return n.setOwner(s, &st, o)
}

// withoutSetID drops setuid, and setgid where it means a group and not mandatory locking.
func withoutSetID(mode uint32) uint32 {
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	return mode
}

// ownerOf is owner of the host file as it is now, which st becomes the stat of.
func (n *inode) ownerOf(s spot, st *unix.Stat_t) (owner, error) {
	if err := s.stat(st); err != nil {
		return owner{}, err
	}
	return n.owner(s, st)
}

// killSetID is what a write or a truncation by somebody without privileges does.
func (n *inode) killSetID(s spot) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	var st unix.Stat_t
	o, err := n.ownerOf(s, &st)
	if err != nil {
		return err
	}
	if mode := withoutSetID(o.mode); mode != o.mode {
		o.mode = mode
		return n.setOwner(s, &st, o)
	}
	return nil
}

func (n *inode) truncate(s spot, size int64) error {
	fd, err := s.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return n.fs.upper.limit.change(fd, 0, func() error {
		return ignoringEINTR(func() error { return unix.Ftruncate(fd, size) })
	})
}
