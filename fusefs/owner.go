package fusefs

import (
	"os"

	"golang.org/x/sys/unix"
)

// owners is the one place that knows how owner, mode and type of the union's files are kept in host files.
type owners struct {
	real     bool // in the files themselves; else in override_stat where the host file cannot say it
	unseen   bool // a file that cannot have its owner is not wrong
	uid, gid uint32
}

func newOwners(realOwners bool) owners {
	return owners{real: realOwners, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
}

// shown is what a host file without override_stat is in the union. To an ordinary user's mica, the files of that user are
// root's, as in a user namespace that maps only him, and everybody else's are nobody's.
func (w owners) shown(st *unix.Stat_t) owner {
	o := owner{uid: st.Uid, gid: st.Gid, mode: st.Mode, rdev: uint32(st.Rdev)}
	if w.real || w.uid == 0 {
		return o
	}
	o.uid, o.gid = nobody, nobody
	if st.Uid == w.uid {
		o.uid = 0
	}
	if st.Gid == w.gid {
		o.gid = 0
	}
	return o
}

// read gives the true owner, mode and type of the host file at s, whose stat is st.
func (w owners) read(s spot, st *unix.Stat_t) (owner, error) {
	o := w.shown(st)
	kind := st.Mode & unix.S_IFMT
	if w.real || (kind != unix.S_IFREG && kind != unix.S_IFDIR) {
		return o, nil
	}
	value, err := s.getxattr(overrideXattr)
	if err != nil {
		if isNoXattr(err) {
			return o, nil
		}
		return owner{}, err
	}
	return w.merge(o, string(value)), nil
}

// merge lays a stored value over what the file shows. A malformed value, or one that makes a folder of a file, is as good as none.
func (w owners) merge(shown owner, value string) owner {
	stored, err := parseOverride(value)
	if err != nil {
		return shown
	}
	hostDir := shown.mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case stored.mode&unix.S_IFMT == 0:
		stored.mode |= shown.mode & unix.S_IFMT
	case (stored.mode&unix.S_IFMT == unix.S_IFDIR) != hostDir:
		return shown
	}
	return stored
}

// hostMode is the mode of the host file that stands for a file of the given one: never setuid, always its owner's to read.
func (w owners) hostMode(mode uint32) uint32 {
	if w.real {
		return mode & 0o7777
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode&0o777 | 0o700
	}
	if mode&unix.S_IFMT != unix.S_IFREG {
		return 0o600
	}
	return mode&0o777 | 0o600
}

// write makes the host file at s, whose stat is st, stand for o.
func (w owners) write(s spot, st *unix.Stat_t, o owner) error {
	if w.real {
		return w.writeReal(s, st, o)
	}
	was := st.Mode
	st.Mode = was&unix.S_IFMT | w.hostMode(o.mode)
	if w.shown(st) == o {
		return w.writePlain(s, was, st.Mode)
	}
	// The value goes first: with it, the host file's mode does not show.
	if st.Mode == was {
		return s.setxattr(overrideXattr, []byte(o.String()), 0)
	}
	old, oldErr := s.getxattr(overrideXattr)
	if err := s.setxattr(overrideXattr, []byte(o.String()), 0); err != nil {
		return err
	}
	if err := s.chmod(st.Mode & 0o7777); err != nil {
		if oldErr == nil {
			_ = s.setxattr(overrideXattr, old, 0)
		} else {
			_ = s.removexattr(overrideXattr)
		}
		return err
	}
	return nil
}

// writePlain makes the host file at s say all by itself, by its mode.
func (w owners) writePlain(s spot, was, mode uint32) error {
	if mode != was {
		if err := s.chmod(mode & 0o7777); err != nil {
			return err
		}
	}
	if err := s.removexattr(overrideXattr); err != nil && !isNoXattr(err) {
		_ = s.chmod(was & 0o7777)
		return err
	}
	return nil
}

func (w owners) writeReal(s spot, st *unix.Stat_t, o owner) error {
	changed := st.Uid != o.uid || st.Gid != o.gid
	if changed {
		if err := s.chown(int(o.uid), int(o.gid)); err != nil && !w.unseen {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK || (!changed && st.Mode&0o7777 == o.mode&0o7777) {
		return nil
	}
	return s.chmod(o.mode & 0o7777)
}

// plain reports whether a new host file of the mica user stands for o with no more said.
func (w owners) plain(o owner) bool {
	kind := o.mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return false
	}
	host := unix.Stat_t{Uid: w.uid, Gid: w.gid, Mode: kind | w.hostMode(o.mode)}
	return w.shown(&host) == o
}
