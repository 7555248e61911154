package fusefs

import (
	"errors"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// resolveBeneath keeps every host look-up inside the folder it starts from: no "..", no link, no other mount.
const resolveBeneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// A descriptor is a counted file descriptor: it closes when the last user lets go, so that a number is never used again
// while a reply still reads from it.
type descriptor struct {
	fd   int
	refs atomic.Int32
	pool *descriptors
}

// hold takes a reference; it is false when the descriptor is already closed.
func (d *descriptor) hold() bool {
	for {
		n := d.refs.Load()
		if n <= 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *descriptor) release() {
	if d.refs.Add(-1) == 0 {
		_ = unix.Close(d.fd)
		d.pool.used.Add(-1)
	}
}

// descriptors bounds how many descriptors a union has open, whatever its guests ask for.
type descriptors struct {
	used, limit atomic.Int64
}

// newDescriptors takes half of what the process may open.
func newDescriptors() *descriptors {
	p := &descriptors{}
	limit := int64(1 << 16)
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur/2 < 1<<16 {
		limit = int64(r.Cur / 2)
	}
	p.limit.Store(limit)
	return p
}

// wrap counts fd, or closes it and says ENFILE when there are too many. It is for what one request needs.
func (p *descriptors) wrap(fd int, err error) (*descriptor, error) {
	return p.count(fd, err, p.limit.Load())
}

// wrapKept is wrap for what stays open as long as a client likes: a quarter is left to the requests.
func (p *descriptors) wrapKept(fd int, err error) (*descriptor, error) {
	return p.count(fd, err, p.limit.Load()/4*3)
}

func (p *descriptors) count(fd int, err error, limit int64) (*descriptor, error) {
	if err != nil {
		return nil, err
	}
	if p.used.Add(1) > limit {
		p.used.Add(-1)
		_ = unix.Close(fd)
		return nil, unix.ENFILE
	}
	d := &descriptor{fd: fd, pool: p}
	d.refs.Store(1)
	return d, nil
}

// openBeneath opens path below the folder dir; no link is followed and no mount is crossed.
func openBeneath(dir int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolveBeneath}
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		how.Mode = uint64(mode)
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// openRegular opens the regular file at path below dir for reading or writing; anything else is refused unopened.
func openRegular(dir int, path string, flags int) (int, error) {
	fd, err := openBeneath(dir, path, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return reopen(fd, flags)
}

// openStored opens the file at path below dir for reading, where only mica's store writes: what it finds there it may open at
// once. Anything but a regular file is refused.
func openStored(dir int, path string) (int, error) {
	fd, err := openBeneath(dir, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EPERM
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// reopen opens the regular file or folder that the O_PATH descriptor fd stands for.
func reopen(fd, flags int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return -1, unix.EPERM
	}
	return ignoringEINTR2(func() (int, error) {
		return unix.Open(procPath(fd), flags&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

func procPath(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func ignoringEINTR2(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

// A spot is where one host file is: name in the folder dir, or the file dir itself when name is "".
type spot struct {
	dir  *descriptor
	name string
}

func (s spot) release() { s.dir.release() }

// path names the spot to the system calls that take no descriptor. Its last component must not be followed.
func (s spot) path() string {
	if s.name == "" {
		return procPath(s.dir.fd)
	}
	return procPath(s.dir.fd) + "/" + s.name
}

func (s spot) flags() int {
	if s.name == "" {
		return unix.AT_EMPTY_PATH
	}
	return unix.AT_SYMLINK_NOFOLLOW
}

func (s spot) stat(st *unix.Stat_t) error {
	return unix.Fstatat(s.dir.fd, s.name, st, s.flags())
}

// open opens the regular file or folder at the spot.
func (s spot) open(flags int) (int, error) {
	if s.name == "" {
		return reopen(s.dir.fd, flags)
	}
	return openRegular(s.dir.fd, s.name, flags)
}

// openPath gives an O_PATH descriptor of whatever is at the spot.
func (s spot) openPath() (int, error) {
	if s.name == "" {
		return unix.FcntlInt(uintptr(s.dir.fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	return openBeneath(s.dir.fd, s.name, unix.O_PATH, 0)
}

// getxattr reads one attribute. A "user." attribute that cannot be there (a link, a device) is ENODATA.
func (s spot) getxattr(name string) ([]byte, error) {
	get := unix.Lgetxattr
	if s.name == "" {
		get = unix.Getxattr
	}
	return readSized(func(b []byte) (int, error) { return get(s.path(), name, b) })
}

func (s spot) listxattr() ([]byte, error) {
	list := unix.Llistxattr
	if s.name == "" {
		list = unix.Listxattr
	}
	return readSized(func(b []byte) (int, error) { return list(s.path(), b) })
}

// readSized calls get with a growing buffer until the answer fits.
func readSized(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 128)
	for {
		n, err := get(buf)
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = get(nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n+64)
	}
}

func (s spot) setxattr(name string, value []byte, flags int) error {
	if s.name == "" {
		return unix.Setxattr(s.path(), name, value, flags)
	}
	return unix.Lsetxattr(s.path(), name, value, flags)
}

func (s spot) removexattr(name string) error {
	if s.name == "" {
		return unix.Removexattr(s.path(), name)
	}
	return unix.Lremovexattr(s.path(), name)
}

func (s spot) chown(uid, gid int) error {
	return unix.Fchownat(s.dir.fd, s.name, uid, gid, s.flags())
}

// chmod changes a regular file's or a folder's mode. fchmodat would follow a link, so it goes through a descriptor.
func (s spot) chmod(mode uint32) error {
	fd := s.dir.fd
	if s.name != "" {
		var err error
		if fd, err = s.openPath(); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(procPath(fd), mode)
}

func (s spot) utimes(times [2]unix.Timespec) error {
	return unix.UtimesNanoAt(s.dir.fd, s.name, times[:], s.flags())
}

func isNoXattr(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM)
}
