package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// StatFs tells the room there is in the upper. A read-only union is full.
func (c *Connection) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return c.with(in.NodeId, func(*inode) error {
		out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
		if c.fs.upper == nil {
			return nil
		}
		var st unix.Statfs_t
		if err := unix.Statfs(procPath(c.fs.upper.root.fd), &st); err != nil {
			return err
		}
		out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
		out.Files, out.Ffree = st.Files, st.Ffree
		out.Bsize, out.Frsize = uint32(st.Bsize), uint32(st.Frsize)
		out.NameLen = uint32(min(st.Namelen, 255))
		c.fs.upper.limit.statfs(out)
		return nil
	})
}
