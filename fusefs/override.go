package fusefs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overrideXattr holds a file's true owner, mode and type, in the format of containers/storage (pkg/idtools, Stat):
// "uid:gid:0mode", or with the type "uid:gid:0mode:type", where type is file, dir, symlink, pipe, socket, block-MAJ-MIN or
// char-MAJ-MIN. libkrun and fuse-overlayfs read and write the first form, with or without the type bits in the mode.
const overrideXattr = "user.containers.override_stat"

// An owner is what override_stat holds: mode has the S_IF* bits, 0 of them when the value does not say.
type owner struct {
	uid, gid, mode uint32
	rdev           uint32 // in the kernel's encoding, as stat(2) gives it
}

var errOverride = errors.New("malformed override_stat")

// parseOverride reads a value that may come from anybody.
func parseOverride(value string) (owner, error) {
	fields := strings.Split(strings.TrimRight(value, "\x00"), ":")
	if len(fields) != 3 && len(fields) != 4 {
		return owner{}, errOverride
	}
	uid, err1 := strconv.ParseUint(fields[0], 10, 32)
	gid, err2 := strconv.ParseUint(fields[1], 10, 32)
	mode, err3 := strconv.ParseUint(fields[2], 8, 32)
	if err := errors.Join(err1, err2, err3); err != nil || mode&^(unix.S_IFMT|0o7777) != 0 {
		return owner{}, errOverride
	}
	o := owner{uid: uint32(uid), gid: uint32(gid), mode: uint32(mode)}
	if len(fields) == 4 {
		if err := o.parseType(fields[3]); err != nil {
			return owner{}, err
		}
	}
	if o.mode&unix.S_IFMT != 0 && !knownType(o.mode) {
		return owner{}, errOverride
	}
	return o, nil
}

func knownType(mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}

func (o *owner) parseType(s string) error {
	perm := o.mode & 0o7777
	kind, numbers, isDevice := strings.Cut(s, "-")
	for _, t := range overrideTypes {
		if t.name != kind {
			continue
		}
		o.mode = perm | t.mode
		if t.mode != unix.S_IFBLK && t.mode != unix.S_IFCHR {
			if isDevice {
				return errOverride
			}
			return nil
		}
		major, minor, ok := strings.Cut(numbers, "-")
		maj, err1 := strconv.ParseUint(major, 10, 12)
		min, err2 := strconv.ParseUint(minor, 10, 20)
		if !ok || err1 != nil || err2 != nil {
			return errOverride
		}
		o.rdev = uint32(unix.Mkdev(uint32(maj), uint32(min)))
		return nil
	}
	return errOverride
}

var overrideTypes = []struct {
	name string
	mode uint32
}{
	{"file", unix.S_IFREG}, {"dir", unix.S_IFDIR}, {"symlink", unix.S_IFLNK}, {"pipe", unix.S_IFIFO},
	{"socket", unix.S_IFSOCK}, {"block", unix.S_IFBLK}, {"char", unix.S_IFCHR},
}

// String is the value to store: without the type where the host file has it already.
func (o owner) String() string {
	s := fmt.Sprintf("%d:%d:0%o", o.uid, o.gid, o.mode&0o7777)
	switch o.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, 0:
		return s
	case unix.S_IFBLK:
		return fmt.Sprintf("%s:block-%d-%d", s, unix.Major(uint64(o.rdev)), unix.Minor(uint64(o.rdev)))
	case unix.S_IFCHR:
		return fmt.Sprintf("%s:char-%d-%d", s, unix.Major(uint64(o.rdev)), unix.Minor(uint64(o.rdev)))
	}
	for _, t := range overrideTypes {
		if t.mode == o.mode&unix.S_IFMT {
			return s + ":" + t.name
		}
	}
	return s
}
