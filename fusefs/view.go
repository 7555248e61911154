package fusefs

import (
	"slices"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A View is how a client is shown the union, where that is not as it is.
type View struct {
	UIDs, GIDs Owners
	NoXattrs   bool           // files have no extended attributes
	Timeout    *time.Duration // how long what nobody else can change is believed; nil is a day
}

// Owners is how a client is shown user or group ids, and which it means by one. The zero value changes nothing.
type Owners struct {
	Ranges []IDRange // of overlapping ones, the last counts
	Squash *uint32   // the id that all files are shown to have
}

// An IDRange shows the Count ids from Kept on as those from Shown on.
type IDRange struct{ Kept, Shown, Count uint32 }

// nobody is the id of owners that are in no range, as Linux has it (/proc/sys/kernel/overflowuid).
const nobody = 65534

// shown is the id that the client sees of a file that has id.
func (o *Owners) shown(id uint32) uint32 {
	if o.Squash != nil {
		return *o.Squash
	}
	if len(o.Ranges) == 0 {
		return id
	}
	for _, r := range slices.Backward(o.Ranges) {
		if id >= r.Kept && id-r.Kept < r.Count {
			return r.Shown + id - r.Kept
		}
	}
	return nobody
}

// kept is the id that a file gets which the client gives id.
func (o *Owners) kept(id uint32) uint32 {
	if len(o.Ranges) == 0 {
		return id
	}
	for _, r := range slices.Backward(o.Ranges) {
		if id >= r.Shown && id-r.Shown < r.Count {
			return r.Kept + id - r.Shown
		}
	}
	return nobody
}

// fill answers with what the inode of a number is.
func (c *Connection) fill(ino uint64, a *attributes, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: ino, Size: a.size, Blocks: a.blocks,
		Atime: uint64(a.atime.Sec), Atimensec: uint32(a.atime.Nsec),
		Mtime: uint64(a.mtime.Sec), Mtimensec: uint32(a.mtime.Nsec),
		Ctime: uint64(a.ctime.Sec), Ctimensec: uint32(a.ctime.Nsec),
		Mode: a.mode, Nlink: a.nlink, Rdev: a.rdev, Blksize: 4096,
		Owner: fuse.Owner{Uid: c.view.UIDs.shown(a.uid), Gid: c.view.GIDs.shown(a.gid)},
	}
}

// callerOwner is the owner of what the client makes.
func (c *Connection) callerOwner(in *fuse.InHeader, mode uint32) owner {
	return owner{uid: c.view.UIDs.kept(in.Uid), gid: c.view.GIDs.kept(in.Gid), mode: mode}
}

// longTimeout is how long the client believes what nobody else can change.
func (c *Connection) longTimeout() time.Duration {
	if c.view.Timeout != nil {
		return *c.view.Timeout
	}
	return 24 * time.Hour
}

// shortTimeout is how long it believes what somebody else can.
func (c *Connection) shortTimeout() time.Duration { return min(time.Second, c.longTimeout()) }
