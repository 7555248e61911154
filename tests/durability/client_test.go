package durability

import (
	"path"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

const rootNode = 1

// A client calls the union as a kernel would, but without one: what it asks for happens on its own thread.
type client struct{ c *fusefs.Connection }

func header(node uint64) fuse.InHeader { return fuse.InHeader{NodeId: node} }

func errorOf(st fuse.Status) error {
	if st.Ok() {
		return nil
	}
	return unix.Errno(st)
}

// entry looks a path up, which is relative to the root; "" is the root.
func (c client) entry(name string) (fuse.EntryOut, error) {
	out := fuse.EntryOut{NodeId: rootNode}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		h := header(out.NodeId)
		out = fuse.EntryOut{}
		if st := c.c.Lookup(nil, &h, part, &out); !st.Ok() {
			return out, unix.Errno(st)
		}
		if out.NodeId == 0 {
			return out, unix.ENOENT
		}
	}
	return out, nil
}

// in calls f with the header of a path's folder, and its last name.
func (c client) in(name string, f func(h fuse.InHeader, name string) fuse.Status) error {
	dir, err := c.entry(path.Dir("/" + name))
	if err != nil {
		return err
	}
	return errorOf(f(header(dir.NodeId), path.Base(name)))
}

// on calls f with a path's header.
func (c client) on(name string, f func(h fuse.InHeader) fuse.Status) error {
	e, err := c.entry(name)
	if err != nil {
		return err
	}
	return errorOf(f(header(e.NodeId)))
}

// open opens a file and closes it when f is done with it.
func (c client) open(name string, flags uint32, f func(h fuse.InHeader, fh uint64) fuse.Status) error {
	return c.on(name, func(h fuse.InHeader) fuse.Status {
		var out fuse.OpenOut
		if st := c.c.Open(nil, &fuse.OpenIn{InHeader: h, Flags: flags}, &out); !st.Ok() {
			return st
		}
		defer c.c.Release(nil, &fuse.ReleaseIn{InHeader: h, Fh: out.Fh})
		return f(h, out.Fh)
	})
}

// overwrite writes data at the start of a file that is there.
func (c client) overwrite(name, data string) error {
	return c.open(name, unix.O_WRONLY, func(h fuse.InHeader, fh uint64) fuse.Status {
		_, st := c.c.Writev(nil, &fuse.WriteIn{InHeader: h, Fh: fh}, [][]byte{[]byte(data)})
		return st
	})
}

// create makes a file.
func (c client) create(name, data string) error {
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status {
		var out fuse.CreateOut
		in := &fuse.CreateIn{InHeader: h, Flags: unix.O_RDWR | unix.O_EXCL, Mode: 0o644}
		if st := c.c.Create(nil, in, name, &out); !st.Ok() {
			return st
		}
		h = header(out.NodeId)
		defer c.c.Release(nil, &fuse.ReleaseIn{InHeader: h, Fh: out.Fh})
		if data == "" {
			return fuse.OK
		}
		_, st := c.c.Writev(nil, &fuse.WriteIn{InHeader: h, Fh: out.Fh}, [][]byte{[]byte(data)})
		return st
	})
}

func (c client) mkdir(name string) error {
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status {
		return c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name, &fuse.EntryOut{})
	})
}

func (c client) symlink(target, name string) error {
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status {
		return c.c.Symlink(nil, &h, target, name, &fuse.EntryOut{})
	})
}

func (c client) link(old, name string) error {
	e, err := c.entry(old)
	if err != nil {
		return err
	}
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status {
		return c.c.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: e.NodeId}, name, &fuse.EntryOut{})
	})
}

func (c client) unlink(name string) error {
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status { return c.c.Unlink(nil, &h, name) })
}

func (c client) rmdir(name string) error {
	return c.in(name, func(h fuse.InHeader, name string) fuse.Status { return c.c.Rmdir(nil, &h, name) })
}

func (c client) rename(old, name string, flags uint32) error {
	to, err := c.entry(path.Dir("/" + name))
	if err != nil {
		return err
	}
	return c.in(old, func(h fuse.InHeader, old string) fuse.Status {
		return c.c.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: to.NodeId, Flags: flags}, old, path.Base(name))
	})
}

// set changes the attributes that fill chooses.
func (c client) set(name string, fill func(in *fuse.SetAttrIn)) error {
	return c.on(name, func(h fuse.InHeader) fuse.Status {
		in := &fuse.SetAttrIn{}
		in.InHeader = h
		fill(in)
		return c.c.SetAttr(nil, in, &fuse.AttrOut{})
	})
}

func (c client) chmod(name string, mode uint32) error {
	return c.set(name, func(in *fuse.SetAttrIn) { in.Valid, in.Mode = fuse.FATTR_MODE, mode })
}

func (c client) chown(name string, uid, gid uint32) error {
	return c.set(name, func(in *fuse.SetAttrIn) {
		in.Valid, in.Owner = fuse.FATTR_UID|fuse.FATTR_GID, fuse.Owner{Uid: uid, Gid: gid}
	})
}

func (c client) truncate(name string, size uint64) error {
	return c.set(name, func(in *fuse.SetAttrIn) { in.Valid, in.Size = fuse.FATTR_SIZE, size })
}

func (c client) setxattr(name, attr, value string) error {
	return c.on(name, func(h fuse.InHeader) fuse.Status {
		return c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, attr, []byte(value))
	})
}

// read reads a file whole.
func (c client) read(name string) ([]byte, error) {
	var all []byte
	err := c.open(name, unix.O_RDONLY, func(h fuse.InHeader, fh uint64) fuse.Status {
		buf := make([]byte, 1<<20)
		for {
			in := &fuse.ReadIn{InHeader: h, Fh: fh, Offset: uint64(len(all)), Size: uint32(len(buf))}
			result, st := c.c.Read(nil, in, buf)
			if !st.Ok() {
				return st
			}
			part, st := result.Bytes(buf)
			result.Done()
			if !st.Ok() || len(part) == 0 {
				return st
			}
			all = append(all, part...)
		}
	})
	return all, err
}
