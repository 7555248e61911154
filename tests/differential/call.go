package differential

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// call does the operation and gives what it returned as text.
func (s *side) call(op Op) string {
	text, err := s.dispatch(op)
	if err == nil {
		return text
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func (s *side) dispatch(op Op) (string, error) {
	if op.usesSlot() {
		return s.slotCall(op, s.open[op.Slot])
	}
	switch op.Kind {
	case Open:
		return "", s.openFile(op)
	case Truncate:
		return "", unix.Truncate(op.Path, op.Len)
	case touch:
		t := timespec(now)
		return "", unix.UtimesNanoAt(s.open[op.Slot], "", []unix.Timespec{t, t}, unix.AT_EMPTY_PATH)
	case touchFolder:
		t := timespec(now)
		return "", unix.UtimesNanoAt(unix.AT_FDCWD, path.Dir(op.Path), []unix.Timespec{t, t}, 0)
	case Mkdir:
		return "", unix.Mkdir(op.Path, op.Mode)
	case Symlink:
		return "", unix.Symlink(op.To, op.Path)
	case Link:
		return "", unix.Linkat(unix.AT_FDCWD, op.Path, unix.AT_FDCWD, op.To, op.Flags)
	case Mknod:
		return "", unix.Mknod(op.Path, op.Mode, int(op.Rdev))
	case Unlink:
		return "", unix.Unlink(op.Path)
	case Rmdir:
		return "", unix.Rmdir(op.Path)
	case Rename:
		return "", unix.Renameat2(unix.AT_FDCWD, op.Path, unix.AT_FDCWD, op.To, uint(op.Flags))
	case Chmod:
		return "", unix.Chmod(op.Path, op.Mode)
	case Chown:
		return "", unix.Fchownat(unix.AT_FDCWD, op.Path, op.UID, op.GID, op.Flags)
	case Utimens:
		return setTimes(op)
	case Access:
		return "", unix.Faccessat2(unix.AT_FDCWD, op.Path, op.Mode, unix.AT_EACCESS)
	case ReadDir:
		return listFolder(op.Path)
	case Readlink:
		return os.Readlink(op.Path)
	case Stat:
		return statFollowed(op.Path)
	}
	return xattrCall(op)
}

func xattrCall(op Op) (string, error) {
	switch op.Kind {
	case SetXattr:
		return "", unix.Lsetxattr(op.Path, op.Name, []byte(op.Value), op.Flags)
	case RemoveXattr:
		return "", unix.Lremovexattr(op.Path, op.Name)
	case ListXattr:
		return describeXattrs(op.Path)
	case GetXattr:
		buf := make([]byte, max(op.Len, 1))
		n, err := unix.Lgetxattr(op.Path, op.Name, buf[:op.Len])
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d %q", n, buf[:min(n, int(op.Len))]), nil
	}
	return "", fmt.Errorf("no operation %q", op.Kind)
}

func (s *side) slotCall(op Op, fd int) (string, error) {
	switch op.Kind {
	case Close:
		s.open[op.Slot] = -1
		return "", unix.Close(fd)
	case Pread, Read:
		return read(op, fd)
	case Pwrite:
		n, err := unix.Pwrite(fd, pattern(int(op.Len), op.Seed), op.Off)
		return fmt.Sprint(n), err
	case Write:
		n, err := unix.Write(fd, pattern(int(op.Len), op.Seed))
		return fmt.Sprint(n), err
	case Seek:
		return seek(op, fd)
	case Ftruncate:
		return "", unix.Ftruncate(fd, op.Len)
	case Fallocate:
		return "", unix.Fallocate(fd, uint32(op.Flags), op.Off, op.Len)
	case Fsync:
		return "", unix.Fsync(fd)
	case CopyRange:
		in, out := op.Off, op.Off2
		n, err := unix.CopyFileRange(fd, &in, s.open[op.Slot2], &out, int(op.Len), 0)
		return fmt.Sprint(n), err
	case Fchmod:
		return "", unix.Fchmod(fd, op.Mode)
	case Fchown:
		return "", unix.Fchown(fd, op.UID, op.GID)
	case LinkSlot:
		return "", unix.Linkat(fd, "", unix.AT_FDCWD, op.To, unix.AT_EMPTY_PATH)
	}
	return "", nil
}

// openFile opens into a slot; what was open there closes first.
func (s *side) openFile(op Op) error {
	if old := s.open[op.Slot]; old >= 0 {
		s.open[op.Slot] = -1
		if err := unix.Close(old); err != nil {
			return err
		}
	}
	// O_NONBLOCK: a fifo has nobody at its other end.
	fd, err := unix.Open(op.Path, op.Flags|unix.O_CLOEXEC|unix.O_NONBLOCK, op.Mode)
	if err != nil {
		return err
	}
	// Only what opens regular files and folders is compared: a device's driver is not the union's.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return unix.Close(fd)
	}
	s.open[op.Slot] = fd
	return nil
}

func read(op Op, fd int) (string, error) {
	buf := make([]byte, op.Len)
	var n int
	var err error
	if op.Kind == Pread {
		n, err = unix.Pread(fd, buf, op.Off)
	} else {
		n, err = unix.Read(fd, buf)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %.8x", n, sha256.Sum256(buf[:n])), nil
}

// Seconds that stand for utimensat's special times.
const (
	now  = -1
	omit = -2
)

// seek leaves folders alone: their offsets are each union's own.
func seek(op Op, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", err
	}
	off, err := unix.Seek(fd, op.Off, op.Flags)
	return fmt.Sprint(off), err
}

// setTimes also reads the time of access back, because it moves on when the file is read.
func setTimes(op Op) (string, error) {
	times := []unix.Timespec{timespec(op.Off), timespec(op.Len)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, op.Path, times, op.Flags); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, op.Path, &st, op.Flags); err != nil {
		return "", err
	}
	if op.Off == omit {
		return "", nil
	}
	return "atime " + describeTime(st.Atim), nil
}

// timespec is a time of so many seconds, or one of utimensat's two special times.
func timespec(seconds int64) unix.Timespec {
	switch seconds {
	case now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case omit:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.Timespec{Sec: seconds, Nsec: seconds % 1_000_000_000}
}

func listFolder(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%q %s", e.Name(), e.Type()))
	}
	slices.Sort(names)
	return strings.Join(names, ", "), nil
}

func statFollowed(name string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return "", err
	}
	return describeStat(&st), nil
}
