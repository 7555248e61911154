package differential

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is what is seen of each path, from the root, which is ".".
type tree map[string]node

type node struct {
	text string // all of it that must be equal
	ino  uint64
	dir  bool
}

// readTree reads the union that is the thread's root folder.
func readTree() (tree, error) {
	t := tree{}
	err := t.read(".")
	return t, err
}

func (t tree) read(name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	n := node{text: describe(name, &st), ino: st.Ino, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	t[name] = n
	if !n.dir {
		return nil
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, child := range names {
		if name != "." {
			child = name + "/" + child
		}
		if _, twice := t[child]; twice {
			return fmt.Errorf("%q is listed twice", child)
		}
		if err := t.read(child); err != nil {
			return err
		}
	}
	return nil
}

// links gives the first path of each file's inode, so that two trees with the same hard links have the same.
func (t tree) links() map[string]string {
	first := map[uint64]string{}
	links := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		n := t[name]
		if _, ok := first[n.ino]; !ok {
			first[n.ino] = name
		}
		links[name] = first[n.ino]
	}
	return links
}

// diff says how got differs, or nothing.
func (t tree) diff(got tree) string {
	wantLinks, gotLinks := t.links(), got.links()
	all := maps.Clone(t)
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want, wanted := t[name]
		have, there := got[name]
		switch {
		case !there:
			return fmt.Sprintf("tree: %q is missing: want %s", name, want.text)
		case !wanted:
			return fmt.Sprintf("tree: %q should not be there: %s", name, have.text)
		case want.text != have.text:
			return fmt.Sprintf("tree: %q\n\twant %s\n\tgot  %s", name, want.text, have.text)
		case wantLinks[name] != gotLinks[name]:
			return fmt.Sprintf("tree: %q has the inode of %q: want that of %q", name, gotLinks[name], wantLinks[name])
		}
	}
	return ""
}

func describeName(name string) string {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return fmt.Sprintf("%q: %s", name, unix.ErrnoName(errno))
	}
	return fmt.Sprintf("%q: %s", name, describe(name, &st))
}

// describe is all there is to say of a name.
func describe(name string, st *unix.Stat_t) string {
	words := []string{describeStat(st), "mtime " + describeTime(st.Mtim)}
	add := func(what, text string, err error) {
		if err != nil {
			text = err.Error()
		}
		words = append(words, what+" "+text)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		text, err := digest(name)
		add("digest", text, err)
	case unix.S_IFLNK:
		text, err := os.Readlink(name)
		add("target", text, err)
	}
	text, err := describeXattrs(name)
	add("xattrs", text, err)
	return strings.Join(words, " ")
}

func describeStat(st *unix.Stat_t) string {
	text := fmt.Sprintf("mode %#o owner %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return text
	case unix.S_IFCHR, unix.S_IFBLK:
		text += fmt.Sprintf(" device %#x", st.Rdev)
	}
	return fmt.Sprintf("%s size %d links %d", text, st.Size, st.Nlink)
}

// describeTime is exact for the times that layers and operations set, all of them before 2020; the clock's are all the same.
func describeTime(t unix.Timespec) string {
	if t.Sec > 1_577_836_800 {
		return "now"
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

// describeOpen leaves out the link count (see allowed.go).
func describeOpen(fd int) string {
	if fd < 0 {
		return "closed"
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "fstat: " + err.Error()
	}
	off, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	st.Nlink = 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "open " + describeStat(&st)
	}
	return fmt.Sprintf("open %s mtime %s offset %d %v", describeStat(&st), describeTime(st.Mtim), off, err)
}

func digest(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOATIME|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%.8x", sum.Sum(nil)), nil
}

func describeXattrs(name string) (string, error) {
	list := make([]byte, 8<<10)
	n, err := unix.Llistxattr(name, list)
	if err != nil {
		return "", err
	}
	var words []string
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		value := make([]byte, 8<<10)
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			words = append(words, fmt.Sprintf("%s: %v", key, err))
			continue
		}
		words = append(words, fmt.Sprintf("%s=%q", key, value[:n]))
	}
	slices.Sort(words)
	return strings.Join(words, " "), nil
}
