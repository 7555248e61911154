package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A limiter caps the blocks that the upper's files take. They are measured at start; from then on each change of a file's
// contents is counted by what it did to the file's blocks, one change at a time. Without a limit it costs nothing.
type limiter struct {
	max int64

	mu   sync.Mutex
	used int64
}

func (l *limiter) start(u *upper) error {
	l.max = int64(min(u.cfg.Limit, 1<<62))
	if l.max == 0 {
		return nil
	}
	var err error
	l.used, err = measure(u.root)
	return err
}

// change runs f, which changes the contents of the file fd and may need blocks for need bytes; over the limit it is ENOSPC.
func (l *limiter) change(fd int, need int64, f func() error) error {
	if l.max == 0 {
		return f()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return err
	}
	if need > 0 && l.used+need > l.max {
		return unix.ENOSPC
	}
	err := f()
	if unix.Fstat(fd, &after) == nil {
		l.used += (after.Blocks - before.Blocks) * 512
	}
	return err
}

// write is change for a write of n bytes at off: what is there already costs nothing, but in a file with holes nobody knows.
func (l *limiter) write(fd int, off, n int64, f func() error) error {
	if l.max == 0 {
		return f()
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	need := n
	if st.Blocks*512 >= st.Size {
		need = max(0, off+n-max(st.Size, off))
	}
	return l.change(fd, need, f)
}

// full says ENOSPC when nothing more fits: for what takes an inode rather than blocks.
func (l *limiter) full() error {
	if l.max == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used >= l.max {
		return unix.ENOSPC
	}
	return nil
}

// add counts the blocks of the file at s: 1 when it has come to the upper, -1 when it is gone.
func (l *limiter) add(s spot, sign int64) {
	if l.max == 0 {
		return
	}
	var st unix.Stat_t
	if s.stat(&st) != nil {
		return
	}
	l.mu.Lock()
	l.used += sign * st.Blocks * 512
	l.mu.Unlock()
}

func (l *limiter) statfs(out *fuse.StatfsOut) {
	if l.max == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unit := uint64(out.Frsize)
	out.Blocks = min(out.Blocks, uint64(l.max)/unit)
	free := uint64(max(0, l.max-l.used)) / unit
	out.Bfree, out.Bavail = min(out.Bfree, free), min(out.Bavail, free)
}

// opened counts an open handle, and closed takes it back: a file without a name gives its blocks back when the last is gone.
func (n *inode) opened() {
	n.mu.Lock()
	n.opens++
	again := n.freed
	n.freed = false
	orphan := n.orphan
	n.mu.Unlock()
	if again && orphan != nil {
		n.fs.upper.limit.add(spot{dir: orphan}, 1)
	}
}

func (n *inode) closed() {
	n.mu.Lock()
	n.opens--
	n.mu.Unlock()
	n.settle()
}

func (n *inode) settle() {
	n.mu.Lock()
	free := n.gone && n.opens == 0 && !n.freed && n.orphan != nil && n.orphan.hold()
	n.freed = n.freed || free
	orphan := n.orphan
	n.mu.Unlock()
	if free {
		n.fs.upper.limit.add(spot{dir: orphan}, -1)
		orphan.release()
	}
}
