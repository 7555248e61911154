package fusefs

import (
	"bytes"
	"encoding/binary"
	"iter"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The forms in which a folder says that a name below it is gone, or that nothing below it shows.
const (
	whPrefix      = ".wh."               // AUFS, and fuse-overlayfs where mknod fails
	whOpaque      = ".wh..wh..opq"       // the same, for a whole folder
	opaqueXattr   = overlay + "opaque"   // kernel overlayfs with userxattr: the form that is written
	whiteoutXattr = overlay + "whiteout" // kernel overlayfs with userxattr, on empty files of lower layers
	overlay       = "user.overlay."
)

var opaqueXattrs = []string{opaqueXattr, "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"}

// isWhiteout knows kernel overlayfs's whiteout: the character device 0:0.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func hasWhiteoutXattr(s spot) bool {
	for _, name := range []string{whiteoutXattr, "trusted.overlay.whiteout"} {
		if _, err := s.getxattr(name); err == nil {
			return true
		}
	}
	return false
}

func isOpaque(s spot) bool {
	for _, name := range opaqueXattrs {
		if v, err := s.getxattr(name); err == nil && string(v) == "y" {
			return true
		}
	}
	return false
}

func existsAt(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// mayHaveWhFiles reports whether names in the upper folder d, whose descriptor is fd, may be hidden by files (whPrefix). Mica
// makes none, and nobody may make one in its mount: a folder that has none is looked through once.
func (d *inode) mayHaveWhFiles(fd *descriptor) bool {
	if !d.fs.upper.cfg.RealOwners {
		return false
	}
	if d.dir.whFiles.Load() == int32(unknown) {
		found := no
		err := readFolder(spot{dir: fd}, func(name string, _ uint64, _ uint32) error {
			if strings.HasPrefix(name, whPrefix) {
				found = yes
			}
			return nil
		})
		if err != nil {
			return true
		}
		d.dir.whFiles.Store(int32(found))
	}
	return d.dir.whFiles.Load() == int32(yes)
}

// readFolder yields the names in the folder at s, without "." and "..", each with its inode number and S_IF* bits.
func readFolder(s spot, yield func(name string, ino uint64, kind uint32) error) error {
	fd, err := s.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "folder")
	defer f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := ignoringEINTR2(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			e, size := parseDirent(rest)
			rest = rest[size:]
			if e.name == "." || e.name == ".." {
				continue
			}
			if err := yield(e.name, e.ino, e.mode); err != nil {
				return err
			}
		}
	}
}

// parseDirent reads one struct linux_dirent64 (getdents64(2)): ino, offset, record length, type, name.
func parseDirent(b []byte) (lowerEntry, int) {
	size := int(binary.NativeEndian.Uint16(b[16:]))
	name := b[19:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return lowerEntry{name: string(name), ino: binary.NativeEndian.Uint64(b), mode: uint32(b[18]) << 12}, size
}

func xattrNames(list []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range strings.SplitSeq(string(list), "\x00") {
			if name != "" && !yield(name) {
				return
			}
		}
	}
}

func readlinkAt(s spot) (string, error) {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(s.dir.fd, s.name, buf)
	if err != nil {
		return "", err
	}
	if n > 4096 {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

func timespec(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

func statOf(x *unix.Statx_t) unix.Stat_t {
	return unix.Stat_t{
		Ino: x.Ino, Mode: uint32(x.Mode), Uid: x.Uid, Gid: x.Gid, Size: int64(x.Size),
		Rdev: unix.Mkdev(x.Rdev_major, x.Rdev_minor),
	}
}
