package fusefs_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUpperLayersHideLowerOnes(t *testing.T) {
	u := newUnion(t,
		tree{"a": "bottom", "only": "bottom", "d/x": "1", "d/y": "1"},
		tree{"a": "top", "d/y": "2", "d/z": "2"})
	u.wantContents("a", "top")
	u.wantContents("only", "bottom")
	u.wantContents("d/x", "1")
	u.wantContents("d/y", "2")
	u.wantNames("d", "x", "y", "z")
	u.wantNames("", "a", "d", "only")
}

func TestRemovedLowerFilesStayGone(t *testing.T) {
	u := newUnion(t, tree{"a": "1", "d/x": "1", "d/sub/y": "1"})
	must(t, os.Remove(u.path("a")))
	u.wantGone("a")
	must(t, os.RemoveAll(u.path("d")))
	u.wantNames("")
	u.remount()
	u.wantNames("")
	// A folder made again shows nothing of what was below.
	must(t, os.Mkdir(u.path("d"), 0o755))
	u.wantNames("d")
	u.write("a", "again")
	u.remount()
	u.wantNames("d")
	u.wantContents("a", "again")
	var st unix.Stat_t
	if err := unix.Lstat(u.upper+"/d/x", &st); err != unix.ENOENT {
		t.Errorf("a whiteout in an opaque folder: %v", err)
	}
}

func TestWritingCopiesUp(t *testing.T) {
	u := newUnion(t, tree{"d/e/f": "lower"})
	f, err := os.OpenFile(u.path("d/e/f"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(" and upper")
	must(t, err)
	must(t, f.Close())
	u.wantContents("d/e/f", "lower and upper")
	u.remount()
	u.wantContents("d/e/f", "lower and upper")
	low, err := os.ReadFile(u.lowers[0] + "/d/e/f")
	must(t, err)
	if string(low) != "lower" {
		t.Errorf("the lower file has changed: %q", low)
	}
}

func TestReaderFollowsCopyUp(t *testing.T) {
	u := newUnion(t, tree{"f": "lower"})
	r, err := os.Open(u.path("f"))
	must(t, err)
	defer r.Close()
	u.write("f", "upper")
	buf := make([]byte, 10)
	n, err := r.ReadAt(buf, 0)
	if string(buf[:n]) != "upper" {
		t.Errorf("read %q (%v) by a descriptor from before the copy-up", buf[:n], err)
	}
}

func TestInodeNumbersAreStable(t *testing.T) {
	u := newUnion(t, tree{"d/f": "x", "d/g": "y"}, tree{"e/f": "z"})
	ino := func(name string) uint64 {
		var st unix.Stat_t
		must(t, unix.Lstat(u.path(name), &st))
		return st.Ino
	}
	names := []string{"d", "d/f", "d/g", "e", "e/f"}
	before := map[string]uint64{}
	seen := map[uint64]string{}
	for _, name := range names {
		before[name] = ino(name)
		if other := seen[before[name]]; other != "" {
			t.Errorf("%s and %s have one inode number", name, other)
		}
		seen[before[name]] = name
	}
	check := func(when string) {
		t.Helper()
		for _, name := range names {
			if got := ino(name); got != before[name] {
				t.Errorf("%s: %s is inode %d, was %d", when, name, got, before[name])
			}
		}
	}
	u.write("d/f", "changed")
	must(t, os.Chmod(u.path("d/g"), 0o600))
	must(t, os.Chmod(u.path("e"), 0o700))
	check("after copy-up")
	u.remount()
	check("after remount")
	u.write("new", "x")
	n := ino("new")
	u.remount()
	if got := ino("new"); got != n {
		t.Errorf("a new file is inode %d after remount, was %d", got, n)
	}
}

func TestHardLinksSurviveCopyUp(t *testing.T) {
	u := prepareUnion(t, tree{"d/a": "x", "e/": ""})
	must(t, os.Link(u.lowers[0]+"/d/a", u.lowers[0]+"/e/b"))
	must(t, os.Link(u.lowers[0]+"/d/a", u.lowers[0]+"/c"))
	u.remount()
	u.write("d/a", "changed")
	check := func() {
		t.Helper()
		u.wantContents("e/b", "changed")
		u.wantContents("c", "changed")
		var a, b unix.Stat_t
		must(t, unix.Lstat(u.path("d/a"), &a))
		must(t, unix.Lstat(u.path("e/b"), &b))
		if a.Ino != b.Ino || a.Nlink != 3 {
			t.Errorf("inodes %d and %d, %d names, want one with 3", a.Ino, b.Ino, a.Nlink)
		}
	}
	check()
	u.remount()
	check()
	must(t, os.Remove(u.path("c")))
	var a unix.Stat_t
	must(t, unix.Lstat(u.path("d/a"), &a))
	if a.Nlink != 2 {
		t.Errorf("%d names after one went, want 2", a.Nlink)
	}
}

func TestRenameOfLowerFolder(t *testing.T) {
	u := newUnion(t, tree{"d/a": "1", "d/s/b": "2", "o/": ""})
	must(t, os.Rename(u.path("d"), u.path("o/n")))
	check := func() {
		t.Helper()
		u.wantGone("d")
		u.wantContents("o/n/a", "1")
		u.wantContents("o/n/s/b", "2")
		u.wantNames("o/n", "a", "s")
	}
	check()
	u.remount()
	check()
	must(t, os.Mkdir(u.path("d"), 0o755))
	u.wantNames("d")
	must(t, os.Rename(u.path("o/n/s"), u.path("d/t")))
	u.wantContents("d/t/b", "2")
	u.remount()
	u.wantContents("d/t/b", "2")
	u.wantNames("o/n", "a")
}

func TestRenameFlags(t *testing.T) {
	u := newUnion(t, tree{"a": "1", "b": "2", "d/x": "x", "e/y": "y"})
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, u.path(from), unix.AT_FDCWD, u.path(to), flags)
	}
	if err := rename("a", "b", unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("RENAME_NOREPLACE: %v", err)
	}
	must(t, rename("a", "b", unix.RENAME_EXCHANGE))
	u.wantContents("a", "2")
	u.wantContents("b", "1")
	must(t, rename("d", "e", unix.RENAME_EXCHANGE))
	u.wantNames("d", "y")
	u.wantNames("e", "x")
	u.remount()
	u.wantNames("d", "y")
	u.wantNames("e", "x")
	if err := rename("a", "c", unix.RENAME_WHITEOUT); err != unix.EINVAL {
		t.Errorf("RENAME_WHITEOUT: %v", err)
	}
	if err := os.Rename(u.path("d"), u.path("d/in")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("rename of a folder into itself: %v", err)
	}
}

func TestRenameOverEmptiedLowerFolder(t *testing.T) {
	u := newUnion(t, tree{"d/a": "1", "e/b": "2"})
	must(t, os.Remove(u.path("e/b")))
	must(t, unix.Rename(u.path("d"), u.path("e"))) // os.Rename refuses by itself
	u.wantNames("e", "a")
	u.remount()
	u.wantNames("", "e")
	u.wantNames("e", "a")
}
