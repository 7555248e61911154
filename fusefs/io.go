package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// spliceFrom is the size from which a read is handed to the client as a descriptor to splice from.
const spliceFrom = 64 << 10

// withHandle runs f on an open file.
func (c *Connection) withHandle(node, id uint64, f func(h *handle, d *descriptor) error) fuse.Status {
	return c.with(node, func(n *inode) error {
		h, d, err := c.contents(n, node, id)
		if err != nil {
			return err
		}
		defer d.release()
		return f(h, d)
	})
}

// Read answers a read of an open file.
func (c *Connection) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	var result fuse.ReadResult
	st := c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		if h.flags&unix.O_ACCMODE == unix.O_WRONLY {
			return unix.EBADF
		}
		if in.Offset > 1<<63-1 {
			return unix.EINVAL
		}
		if len(buf) >= spliceFrom {
			d.hold()
			result = &readResult{d: d, off: int64(in.Offset), size: len(buf)}
			return nil
		}
		n, err := ignoringEINTR2(func() (int, error) { return unix.Pread(d.fd, buf, int64(in.Offset)) })
		if err != nil {
			return err
		}
		result = fuse.ReadResultData(buf[:n])
		return nil
	})
	return result, st
}

// A readResult lets the reply be spliced or read out of a descriptor that stays open until then.
type readResult struct {
	d    *descriptor
	off  int64
	size int
}

func (r *readResult) Size() int { return r.size }
func (r *readResult) Done()     { r.d.release() }

// Seekable is what go-fuse splices from.
func (r *readResult) Seekable() (fd uintptr, off int64, size int) {
	return uintptr(r.d.fd), r.off, r.size
}

func (r *readResult) Bytes(buf []byte) ([]byte, fuse.Status) {
	n, err := ignoringEINTR2(func() (int, error) { return unix.Pread(r.d.fd, buf[:min(len(buf), r.size)], r.off) })
	return buf[:max(n, 0)], status(err)
}

// Readv reads straight into a guest's memory.
func (r *readResult) Readv(dst [][]byte) (int, fuse.Status) {
	n, err := ignoringEINTR2(func() (int, error) { return unix.Preadv(r.d.fd, dst, r.off) })
	return max(n, 0), status(err)
}

// Writev answers a write to an open file.
func (c *Connection) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	var written int
	st := c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		if !h.write {
			return unix.EBADF
		}
		if in.Offset > 1<<63-1 {
			return unix.EFBIG
		}
		if err := h.inode.beforeWrite(in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0); err != nil {
			return err
		}
		var total int64
		for _, b := range data {
			total += int64(len(b))
		}
		return c.fs.upper.limit.write(d.fd, int64(in.Offset), total, func() (err error) {
			written, err = ignoringEINTR2(func() (int, error) { return unix.Pwritev(d.fd, data, int64(in.Offset)) })
			return err
		})
	})
	return uint32(max(written, 0)), st
}

// beforeWrite drops the capability, and setuid bits when the client asks.
func (n *inode) beforeWrite(kill bool) error {
	n.mu.RLock()
	clean := n.caps == no
	n.mu.RUnlock()
	if clean && !kill {
		return nil
	}
	return n.atSpot(func(s spot) error { return n.dropPrivileges(s, kill) })
}

// dropPrivileges drops the capability of changed contents, and with kill the set-ID bits.
func (n *inode) dropPrivileges(s spot, kill bool) error {
	if err := n.dropCapability(s); err != nil {
		return err
	}
	if kill {
		return n.killSetID(s)
	}
	return nil
}

// Lseek answers SEEK_DATA and SEEK_HOLE; the rest is the client's.
func (c *Connection) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
			return unix.EINVAL
		}
		off, err := unix.Seek(d.fd, int64(in.Offset), int(in.Whence))
		out.Offset = uint64(off)
		return err
	})
}

// Fallocate answers the modes that keep the file's layout.
func (c *Connection) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return c.withHandle(in.NodeId, in.Fh, func(h *handle, d *descriptor) error {
		const keep, punch, zero = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE
		if !h.write {
			return unix.EBADF
		}
		switch in.Mode {
		case 0, keep, punch | keep, zero, zero | keep:
		default:
			return unix.EOPNOTSUPP
		}
		if in.Offset > 1<<63-1 || in.Length > 1<<63-1 {
			return unix.EFBIG
		}
		if err := h.inode.beforeWrite(mayNotKeepSetID(&in.InHeader)); err != nil {
			return err
		}
		need := int64(in.Length)
		if in.Mode&punch != 0 {
			need = 0
		}
		return c.fs.upper.limit.change(d.fd, need, func() error {
			return ignoringEINTR(func() error {
				return unix.Fallocate(d.fd, in.Mode, int64(in.Offset), int64(in.Length))
			})
		})
	})
}

// mayNotKeepSetID reports whether a change of contents costs setuid bits where the request has no flag to say so: everybody's but
// root's does, who has CAP_FSETID.
func mayNotKeepSetID(in *fuse.InHeader) bool { return in.Uid != 0 }

// CopyFileRange copies between two open files on the host.
func (c *Connection) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	var written int
	st := c.withHandle(in.NodeId, in.FhIn, func(_ *handle, from *descriptor) error {
		return statusError(c.withHandle(in.NodeIdOut, in.FhOut, func(h *handle, to *descriptor) error {
			if !h.write || in.Flags != 0 {
				return unix.EBADF
			}
			if in.OffIn > 1<<63-1 || in.OffOut > 1<<63-1 {
				return unix.EINVAL
			}
			length := min(in.Len, 1<<30)
			if err := h.inode.beforeWrite(mayNotKeepSetID(&in.InHeader)); err != nil {
				return err
			}
			offIn, offOut := int64(in.OffIn), int64(in.OffOut)
			return c.fs.upper.limit.write(to.fd, offOut, int64(length), func() (err error) {
				written, err = ignoringEINTR2(func() (int, error) {
					return unix.CopyFileRange(from.fd, &offIn, to.fd, &offOut, int(length), 0)
				})
				return err
			})
		}))
	})
	return uint32(max(written, 0)), st
}

func statusError(st fuse.Status) error {
	if st.Ok() {
		return nil
	}
	return unix.Errno(st)
}
