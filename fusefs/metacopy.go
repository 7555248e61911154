package fusefs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A file whose owner, mode, times or attributes changed, but not its contents, is in the upper with its contents still
// below: metacopyXattr says where, as "LAYER:PATH", the layer counted from the bottom.

// canStayBelow reports whether the inode's contents may be left where they are.
func (n *inode) canStayBelow() bool {
	if n.fs.upper.cfg.NoRedirect {
		return false
	}
	_, synthetic := n.lowers[0].layer.(*syntheticLower)
	return !synthetic
}

func (n *inode) markMetacopy(s spot) error {
	low := n.lowers[0]
	path, err := low.layer.where(low)
	if err != nil {
		return err
	}
	return s.setxattr(metacopyXattr, []byte(strconv.Itoa(low.layer.number())+":"+path), 0)
}

// readMetacopy finds the contents of an upper file that has none. Contents that are not there any more are an I/O error to
// those who read them.
func (n *inode) readMetacopy(s spot) error {
	value, err := s.getxattr(metacopyXattr)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		return err
	}
	if st.Size == 0 {
		// A crash came between the cutting off of the contents and the removal of the mark.
		return s.removexattr(metacopyXattr)
	}
	n.meta = true
	number, path, _ := strings.Cut(string(value), ":")
	for _, l := range n.fs.layers {
		if strconv.Itoa(l.number()) != number {
			continue
		}
		low, err := findLower(l, path)
		if err == nil && low.mode&unix.S_IFMT == unix.S_IFREG {
			n.lowers = []lowerNode{low}
		}
	}
	return nil
}

// completeCopy brings the contents of a file that is in the upper but for them. The mark goes last: until then, a crash
// leaves the contents below.
func (n *inode) completeCopy(level copyLevel) error {
	n.fs.tree.RLock()
	s, err := n.spot()
	n.fs.tree.RUnlock()
	if err != nil {
		return err
	}
	defer s.release()
	fd, err := s.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if level == wholeFile {
		if err := n.bringContents(fd, st.Size); err != nil {
			_ = restoreTimes(fd, &st)
			return err
		}
		if err := restoreTimes(fd, &st); err != nil {
			return err
		}
	} else if err := unix.Ftruncate(fd, 0); err != nil {
		return err
	}
	if err := unix.Fremovexattr(fd, metacopyXattr); err != nil && !isNoXattr(err) {
		_ = unix.Ftruncate(fd, st.Size)
		_ = restoreTimes(fd, &st)
		return err
	}
	n.mu.Lock()
	n.meta, n.lowers = false, nil
	n.mu.Unlock()
	return nil
}

// bringContents copies the contents into fd, a hole of their size, durably.
func (n *inode) bringContents(fd int, size int64) error {
	err := n.fs.upper.limit.change(fd, size, func() error {
		err := n.copyContents(fd)
		if err != nil { // a full disk needs what half a copy takes
			_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
		}
		return err
	})
	if err != nil || n.fs.upper.cfg.Volatile {
		return err
	}
	return unix.Fsync(fd)
}

func restoreTimes(fd int, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}
