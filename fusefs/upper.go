package fusefs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Xattrs of our own on upper files.
const (
	redirectXattr = overlay + "mica.redirect" // of a folder: where its lower parts are, a path from the root
	metacopyXattr = overlay + "mica.metacopy" // of a file: its contents are still "LAYER:PATH"
	inoXattr      = overlay + "mica.ino"      // the inode number it had as a lower file, decimal
	rootXattr     = overlay + "mica.root"     // of the root folder: it has taken over what the layers' root is
)

const workFolder = "mica" // in Upper.Work: what is being made, and what is being removed

// An upper is the writable layer's folders.
type upper struct {
	cfg    Upper
	owners owners
	root   *descriptor
	work   *descriptor
	serial atomic.Uint64
	limit  limiter

	large    *descriptor // large xattr values; nil: there is no work folder to keep them in
	hasLarge atomic.Bool
}

func openUpper(cfg Upper, pool *descriptors) (*upper, error) {
	u := &upper{cfg: cfg, owners: newOwners(cfg.RealOwners)}
	u.owners.unseen = cfg.UnseenOwners
	var err error
	if u.root, err = openFolder(cfg.Dir, pool); err != nil {
		return nil, fmt.Errorf("open upper: %w", err)
	}
	if cfg.Work == "" {
		u.work = u.root
		u.work.hold()
	} else if err := u.openWork(pool); err != nil {
		u.root.release()
		return nil, fmt.Errorf("open work folder: %w", err)
	}
	if err := u.limit.start(u); err != nil {
		return nil, errors.Join(err, u.close())
	}
	return u, nil
}

func openFolder(dir string, pool *descriptors) (*descriptor, error) {
	d, err := pool.wrap(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return d, nil
}

// openWork opens the folder that new files are made in, empty.
func (u *upper) openWork(pool *descriptors) error {
	work, err := openFolder(u.cfg.Work, pool)
	if err != nil {
		return err
	}
	defer work.release()
	if err := u.undoLinks(work); err != nil {
		return fmt.Errorf("take back half a copy of hard links: %w", err)
	}
	if err := removeTree(work.fd, workFolder); err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	if err := unix.Mkdirat(work.fd, workFolder, 0o700); err != nil {
		return err
	}
	u.work, err = pool.wrap(openBeneath(work.fd, workFolder, unix.O_PATH|unix.O_DIRECTORY, 0))
	if err != nil {
		return err
	}
	if err := u.openLarge(work, pool); err != nil {
		return err
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(u.root.fd, &a), unix.Fstat(u.work.fd, &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev {
		return fmt.Errorf("%s is not on the filesystem of %s", u.cfg.Work, u.cfg.Dir)
	}
	return nil
}

func (u *upper) openLarge(work *descriptor, pool *descriptors) error {
	err := unix.Mkdirat(work.fd, largeFolder, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	u.hasLarge.Store(err == unix.EEXIST)
	u.large, err = pool.wrap(openBeneath(work.fd, largeFolder, unix.O_PATH|unix.O_DIRECTORY, 0))
	return err
}

// temp names a new file in the work folder. A volume has no work folder: its root stands in, and the name says whose it is.
func (u *upper) temp() string {
	n := strconv.FormatUint(u.serial.Add(1), 36)
	if u.cfg.Work == "" {
		return ".mica-" + strconv.Itoa(unix.Getpid()) + "-" + n
	}
	return n
}

// adoptRoot gives a new upper's root folder the owner and mode of the layers' root, once.
func (u *upper) adoptRoot(root *inode) error {
	if u.cfg.RealOwners || u.cfg.Shared || len(root.lowers) == 0 {
		return nil
	}
	s := spot{dir: u.root}
	for _, mark := range []string{rootXattr, overrideXattr} {
		if _, err := s.getxattr(mark); err == nil {
			return nil
		}
	}
	a, err := root.lowerAttr()
	if err != nil {
		return err
	}
	if err := root.copyXattrs(s); err != nil {
		return err
	}
	if err := s.utimes([2]unix.Timespec{a.atime, a.mtime}); err != nil {
		return err
	}
	if err := s.setxattr(overrideXattr, []byte(a.owner.String()), 0); err != nil {
		return err
	}
	// override_stat goes when a chmod leaves it nothing to say, so it cannot be what makes this happen once.
	return s.setxattr(rootXattr, []byte("y"), 0)
}

func (u *upper) close() error {
	if u.large != nil {
		u.large.release()
	}
	u.work.release()
	u.root.release()
	return nil
}

// makeWhiteout makes one in the work folder.
func (u *upper) makeWhiteout() (string, error) {
	name := u.temp()
	return name, unix.Mknodat(u.work.fd, name, unix.S_IFCHR, 0)
}

// discard removes a work file or folder, whatever is in it.
func (u *upper) discard(name string) {
	_ = removeTree(u.work.fd, name)
}
