package fusefs

import (
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A limiter caps what the upper takes. What is there is measured at start; what is added is counted before it is written.
type limiter struct {
	max  int64
	used atomic.Int64
}

func (l *limiter) start(u *upper) error {
	l.max = int64(min(u.cfg.Limit, 1<<62))
	if l.max == 0 {
		return nil
	}
	used, err := measure(spot{dir: u.root})
	l.used.Store(used)
	return err
}

// measure adds up the blocks of all that is below the folder at s.
func measure(s spot) (int64, error) {
	var total int64
	err := readFolder(s, func(name string, _ uint64, _ uint32) error {
		at := spot{dir: s.dir, name: name}
		var st unix.Stat_t
		if err := at.stat(&st); err != nil {
			return err
		}
		total += st.Blocks * 512
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		fd, err := openBeneath(s.dir.fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		d := &descriptor{fd: fd, pool: &descriptors{}}
		d.refs.Store(1)
		defer d.release()
		n, err := measure(spot{dir: d})
		total += n
		return err
	})
	return total, err
}

// grow takes n bytes, or says ENOSPC.
func (l *limiter) grow(n int64) error {
	if l.max == 0 {
		return nil
	}
	if l.used.Add(n) > l.max {
		l.used.Add(-n)
		return unix.ENOSPC
	}
	return nil
}

// write takes what a write of n bytes at off adds to the file fd.
func (l *limiter) write(fd int, off, n int64) error {
	if l.max == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return l.grow(max(0, off+n-max(st.Size, off)))
}

// resize gives back what a truncation frees.
func (l *limiter) resize(fd int, size int64) error {
	if l.max == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if freed := st.Blocks*512 - size; freed > 0 {
		l.used.Add(-freed)
	}
	return nil
}

func (l *limiter) statfs(out *fuse.StatfsOut) {
	if l.max == 0 {
		return
	}
	unit := uint64(out.Frsize)
	out.Blocks = min(out.Blocks, uint64(l.max)/unit)
	free := uint64(max(0, l.max-l.used.Load())) / unit
	out.Bfree, out.Bavail = min(out.Bfree, free), min(out.Bavail, free)
}
