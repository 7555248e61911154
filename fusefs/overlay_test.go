package fusefs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// describe lists a tree: names, types, and contents. Owners and modes are override_stat's.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %#o", name, st.Mode&unix.S_IFMT)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			contents, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q", st.Nlink, contents)
		}
		lines = append(lines, line)
		return nil
	}))
	slices.Sort(lines)
	return lines
}

// mountOverlay mounts kernel overlayfs over the layers of u, with upper.
func mountOverlay(t *testing.T, u *union, upper, work string) string {
	t.Helper()
	dir := t.TempDir()
	lowers := slices.Clone(u.lowers)
	slices.Reverse(lowers)
	options := fmt.Sprintf("userxattr,lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lowers, ":"), upper, work)
	must(t, unix.Mount("overlay", dir, "overlay", 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

var overlaySteps = []struct {
	name string
	do   func(dir string) error
}{
	{"remove a file", func(d string) error { return os.Remove(d + "/a") }},
	{"remove a tree", func(d string) error { return os.RemoveAll(d + "/d") }},
	{"make the folder again", func(d string) error { return os.Mkdir(d+"/d", 0o755) }},
	{"change a file", func(d string) error { return os.WriteFile(d+"/b", []byte("changed"), 0o644) }},
	{"make a file where one was", func(d string) error { return os.WriteFile(d+"/a", []byte("new"), 0o644) }},
	{"rename a file", func(d string) error { return os.Rename(d+"/e/x", d+"/e/renamed") }},
	{"rename over a file", func(d string) error { return os.Rename(d+"/e/renamed", d+"/e/y") }},
	{"rename a new folder over a gone one", func(d string) error {
		if err := os.MkdirAll(d+"/n/inner", 0o755); err != nil {
			return err
		}
		if err := os.RemoveAll(d + "/f"); err != nil {
			return err
		}
		return os.Rename(d+"/n", d+"/f")
	}},
	{"link", func(d string) error { return os.Link(d+"/b", d+"/e/b2") }},
	{"append", func(d string) error {
		f, err := os.OpenFile(d+"/g/deep/er", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("+")
		return err
	}},
	{"remove a folder below", func(d string) error { return os.RemoveAll(d + "/g/gone") }},
	{"truncate", func(d string) error { return os.Truncate(d+"/h", 2) }},
}

func overlayTrees() []tree {
	return []tree{
		{"a": "1", "b": "1", "d/x": "1", "d/s/y": "1", "e/x": "1", "e/y": "1", "f/x": "1", "g/deep/er": "1", "g/gone/x": "1", "h": "12345"},
		{"b": "2", "d/x": "2", "f/y": "2", "g/gone/z": "2"},
	}
}

func TestKernelOverlayShowsTheSameTree(t *testing.T) {
	u := prepareUnion(t, overlayTrees()...)
	// Redirects and metadata-only copies are mica's own: without them the upper is kernel overlayfs's.
	u.config.Upper.NoRedirect = true
	u.remount()
	base := t.TempDir()
	must(t, os.Mkdir(base+"/upper", 0o755))
	must(t, os.Mkdir(base+"/work", 0o755))
	native := mountOverlay(t, u, base+"/upper", base+"/work")
	for _, step := range overlaySteps {
		want, got := step.do(native), step.do(u.dir)
		if (want == nil) != (got == nil) {
			t.Fatalf("%s: %v, kernel overlayfs %v", step.name, got, want)
		}
		compare(t, step.name, describe(t, u.dir), describe(t, native))
	}
	if err := os.Rename(u.path("g"), u.path("moved")); !isErrno(err, unix.EXDEV) {
		t.Errorf("rename of a lower folder without redirects: %v", err)
	}
	want := describe(t, u.dir)
	u.unmount()
	compare(t, "the kernel's mount of the upper", describe(t, mountOverlay(t, u, u.upper, t.TempDir())), want)
}

func TestKernelOverlayUpperIsRead(t *testing.T) {
	u := prepareUnion(t, overlayTrees()...)
	dir := t.TempDir()
	options := fmt.Sprintf("userxattr,lowerdir=%s:%s,upperdir=%s,workdir=%s", u.lowers[1], u.lowers[0], u.upper, u.work)
	must(t, unix.Mount("overlay", dir, "overlay", 0, options))
	for _, step := range overlaySteps {
		if err := step.do(dir); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	want := describe(t, dir)
	must(t, unix.Unmount(dir, 0))
	u.remount()
	compare(t, "an upper of the kernel's", describe(t, u.dir), want)
}

func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
