package fusefs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// DefaultRemembered is Config.Remembered where that is 0: enough for the inode cache of a guest of more than 4 GiB, whose kernel
// spends about a KiB on each file of it.
const DefaultRemembered = 2 << 30

// What is remembered costs about so many bytes, as BenchmarkRemembered measures them. Names and paths come to that.
const (
	inodeBytes   = 290 // with its node at one client
	folderBytes  = 112 // more
	placeBytes   = 48  // a name by which it is known
	lowerBytes   = 56  // a part of it in a layer
	listingBytes = 64  // an entry of a listing

	// A stub counts as what it becomes when it is used, which is never refused.
	stubBytes = inodeBytes + placeBytes + lowerBytes
)

// memory counts, in bytes, what the union remembers: inodes, their places, and listings of folders. An honest client's kernel
// forgets what it needs no more. One that does not is refused whatever would be remembered in addition: it keeps what it
// has, and a request that is refused has changed nothing.
type memory struct {
	used atomic.Int64
	max  int64
}

// full says ENOMEM when nothing more should be remembered.
func (m *memory) full() error {
	if m.used.Load() >= m.max {
		return unix.ENOMEM
	}
	return nil
}

// full is memory.full for a client that may be hostile: a guest. The kernel of a host mount forgets in time.
func (c *Connection) full() error {
	if !c.guest {
		return nil
	}
	return c.fs.memory.full()
}

// admit says full, which full has said before n was looked up, and lets go of n, if the client does not know n yet.
func (c *Connection) admit(n *inode, full error) error {
	if full == nil || c.nodes.knows(n) {
		return nil
	}
	c.fs.unref(n, 1)
	return full
}

// weigh counts the inode, which is new.
func (n *inode) weigh() {
	n.weight = inodeBytes
	if n.isDir() {
		n.weight += folderBytes
	}
	for _, p := range n.lowers {
		n.weight += lowerBytes + int32(len(p.path))
	}
	n.fs.memory.used.Add(int64(n.weight))
}

func (p place) bytes() int64 { return placeBytes + int64(len(p.name)) }

func (e *listEntry) bytes() int64 { return listingBytes + int64(len(e.name)) }
