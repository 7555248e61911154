package tree_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/tree"
)

func TestDiff(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string) error
		want   []string
	}{
		"nothing": {func(*testing.T, string) error { return nil }, nil},
		"contents": {write("plain", "x"), []string{
			`"plain": size: want 0, got 1`,
			`"plain": contents: want e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, got 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881`,
		}},
		"missing": {func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "link")) }, []string{`"link" is missing`}},
		"new":     {write("folder/new", ""), []string{`"folder/new" should not be there`}},
		"skipped": {write("skipped", ""), nil},
		"xattr": {func(t *testing.T, dir string) error {
			return unix.Setxattr(filepath.Join(dir, "plain"), "user.a", []byte("b"), 0)
		}, []string{`"plain": xattrs: want map[], got map["user.a":"b"]`}},
		"a copy in place of a hard link": {func(t *testing.T, dir string) error {
			if err := os.Remove(filepath.Join(dir, "folder/hard")); err != nil {
				return err
			}
			return write("folder/hard", "file")(t, dir)
		}, []string{`"file": hard link to: want file, got `, `"folder/hard": hard link to: want file, got `}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := sample(t)
			want := read(t, dir)
			if err := test.change(t, dir); err != nil {
				t.Fatal(err)
			}
			got := tree.Diff(want, read(t, dir))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func read(t *testing.T, dir string) tree.Tree {
	t.Helper()
	nodes, err := tree.Read(dir, func(path string) bool { return path == "skipped" })
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

func sample(t *testing.T) string {
	t.Helper()
	// not under /tmp, which can be a tmpfs without user xattrs
	dir, err := os.MkdirTemp("/var/tmp", "tree-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "folder"), 0o755),
		os.WriteFile(filepath.Join(dir, "file"), []byte("file"), 0o644),
		os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "folder/hard")),
		os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644),
		os.Symlink("file", filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(name, text string) func(*testing.T, string) error {
	return func(t *testing.T, dir string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
}
