package fusefs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	fulltree "github.com/micavm/mica/tests/tree"
)

// What is exported shows the same tree over the same layers, mounted by kernel overlayfs.
func TestExport(t *testing.T) {
	u := newUnion(t, tree{"dir/file": "of the first", "dir/sub/deep": "deep", "plain": "first", "gone": "", "other/x": "x"}, tree{"dir/second": "of the second"})
	must(t, os.Rename(u.path("dir"), u.path("moved")))
	must(t, os.Remove(u.path("moved/file")))
	u.write("moved/new", "new")
	must(t, os.Rename(u.path("moved/sub"), u.path("other/sub")))
	must(t, os.Chmod(u.path("plain"), 0o4751))
	must(t, os.Lchown(u.path("plain"), 12, 34))
	must(t, os.Remove(u.path("gone")))
	must(t, os.Symlink("plain", u.path("link")))
	must(t, os.Lchown(u.path("link"), 5, 6))
	must(t, os.Link(u.path("plain"), u.path("other/hard")))
	must(t, unix.Mkfifo(u.path("fifo"), 0o640))
	must(t, unix.Setxattr(u.path("plain"), "user.note", []byte("kept"), 0))
	must(t, unix.Setxattr(u.path("plain"), "trusted.note", []byte("kept too"), 0))
	want, err := fulltree.Read(u.dir, nil)
	must(t, err)

	for _, realOwners := range []bool{false, true} {
		u.unmount()
		fs, err := fusefs.New(u.config)
		must(t, err)
		dest := t.TempDir()
		err = fs.Export(dest, realOwners)
		must(t, fs.Close())
		must(t, err)
		got := kernelTree(t, u, dest)
		if !realOwners {
			dropOwners(want, got)
		}
		if lines := fulltree.Diff(want, got); len(lines) > 0 {
			t.Errorf("real owners %v: %s", realOwners, strings.Join(lines, "\n"))
		}
		if !realOwners {
			u.remount()
			want, err = fulltree.Read(u.dir, nil)
			must(t, err)
		}
	}
}

// kernelTree is what kernel overlayfs shows of upper over the layers of u.
func kernelTree(t *testing.T, u *union, upper string) fulltree.Tree {
	t.Helper()
	base := t.TempDir()
	dir, work := filepath.Join(base, "merged"), filepath.Join(base, "work")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Mkdir(work, 0o755))
	options := "userxattr,lowerdir=" + u.lowers[1] + ":" + u.lowers[0] + ",upperdir=" + upper + ",workdir=" + work
	must(t, unix.Mount("overlay", dir, "overlay", 0, options))
	defer func() { must(t, unix.Unmount(dir, 0)) }()
	got, err := fulltree.Read(dir, nil)
	must(t, err)
	return got
}

// dropOwners takes out of both what override_stat holds.
func dropOwners(trees ...fulltree.Tree) {
	for _, tr := range trees {
		for name, n := range tr {
			if n.Mode&unix.S_IFMT != unix.S_IFREG && n.Mode&unix.S_IFMT != unix.S_IFDIR || name == "link" || name == "fifo" {
				n = fulltree.Node{}
			}
			n.Mode, n.UID, n.GID, n.Xattrs = n.Mode&unix.S_IFMT, 0, 0, nil
			tr[name] = n
		}
	}
}
