package fusefs_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// A client drives the server as a guest that owns its kernel can: by raw requests.
type client struct {
	t *testing.T
	c *fusefs.Connection
}

func newClient(t *testing.T, u *union) client {
	fsys, err := fusefs.New(u.config)
	must(t, err)
	c := fsys.Connect(fusefs.ConnectOptions{Guest: true})
	t.Cleanup(func() {
		c.Close()
		must(t, fsys.Close())
	})
	return client{t, c}
}

func header(node uint64) fuse.InHeader { return fuse.InHeader{NodeId: node} }

func (c client) lookup(dir uint64, name string) uint64 {
	c.t.Helper()
	h := header(dir)
	var out fuse.EntryOut
	if st := c.c.Lookup(nil, &h, name, &out); !st.Ok() || out.NodeId == 0 {
		c.t.Fatalf("look up %q: %v, node %d", name, st, out.NodeId)
	}
	return out.NodeId
}

func TestNamesThatNoFolderHoldsAreRefused(t *testing.T) {
	u := prepareUnion(t, tree{"d/f": "x"})
	c := newClient(t, u)
	d := c.lookup(1, "d")
	f := c.lookup(d, "f")
	for _, name := range []string{"", ".", "..", "/", "a/b", "../x", "x\x00y", strings.Repeat("n", 256)} {
		h := header(d)
		var entry fuse.EntryOut
		calls := map[string]fuse.Status{
			"lookup":  c.c.Lookup(nil, &h, name, &entry),
			"mkdir":   c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name, &entry),
			"mknod":   c.c.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: unix.S_IFREG}, name, &entry),
			"symlink": c.c.Symlink(nil, &h, "target", name, &entry),
			"create":  c.c.Create(nil, &fuse.CreateIn{InHeader: h}, name, &fuse.CreateOut{}),
			"link":    c.c.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: f}, name, &entry),
			"unlink":  c.c.Unlink(nil, &h, name),
			"rmdir":   c.c.Rmdir(nil, &h, name),
			"from":    c.c.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: d}, name, "ok"),
			"to":      c.c.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: d}, "f", name),
		}
		for call, st := range calls {
			if st != fuse.EINVAL && st != fuse.Status(unix.ENAMETOOLONG) {
				t.Errorf("%s of %.20q: %v", call, name, st)
			}
		}
	}
}

// TestForgottenNodesStayForgotten has node ids in new places of the table that were forgotten: they are nobody's.
func TestForgottenNodesStayForgotten(t *testing.T) {
	u := prepareUnion(t, tree{"f": "secret", "g": "x"})
	c := newClient(t, u)
	seen := map[uint64]bool{}
	for i := range 1000 {
		name := string("fg"[i%2])
		node := c.lookup(1, name)
		if seen[node] {
			t.Fatalf("node %d is another's again", node)
		}
		seen[node] = true
		c.c.Forget(node, 1)
	}
	kept := c.lookup(1, "g")
	for node := range seen {
		if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(node)}, &fuse.AttrOut{}); st != fuse.Status(unix.ESTALE) {
			t.Fatalf("getattr of node %d, which is forgotten: %v", node, st)
		}
		c.c.Forget(node, 1)
	}
	if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(kept)}, &fuse.AttrOut{}); !st.Ok() {
		t.Errorf("getattr: %v", st)
	}
}

func TestForgedNodesAndHandles(t *testing.T) {
	u := prepareUnion(t, tree{"f": "secret", "g": "x"})
	c := newClient(t, u)
	f, g := c.lookup(1, "f"), c.lookup(1, "g")
	var open fuse.OpenOut
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(f)}, &open); !st.Ok() {
		t.Fatal(st)
	}
	buf := make([]byte, 10)
	if _, st := c.c.Read(nil, &fuse.ReadIn{InHeader: header(g), Fh: open.Fh}, buf); st != fuse.EBADF {
		t.Errorf("read by another file's handle: %v", st)
	}
	if _, st := c.c.Read(nil, &fuse.ReadIn{InHeader: header(f), Fh: open.Fh + 7}, buf); st != fuse.EBADF {
		t.Errorf("read by a forged handle: %v", st)
	}
	if _, st := c.c.Writev(nil, &fuse.WriteIn{InHeader: header(f), Fh: open.Fh}, [][]byte{buf}); st != fuse.EBADF {
		t.Errorf("write by a read-only handle: %v", st)
	}
	for _, node := range []uint64{0, 99, 1 << 40, ^uint64(0) - 1} {
		if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(node)}, &fuse.AttrOut{}); st != fuse.Status(unix.ESTALE) {
			t.Errorf("getattr of node %d: %v", node, st)
		}
		c.c.Forget(node, 5)
	}
	c.c.Forget(g, ^uint64(0))
	c.c.Forget(g, 1)
	c.c.Forget(1, ^uint64(0))
	if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(g)}, &fuse.AttrOut{}); st != fuse.Status(unix.ESTALE) {
		t.Errorf("getattr of what was forgotten: %v", st)
	}
	c.lookup(1, "f")
	c.c.Release(nil, &fuse.ReleaseIn{Fh: open.Fh})
	c.c.Release(nil, &fuse.ReleaseIn{Fh: open.Fh})
	other := newOtherConnection(t, u)
	if _, st := other.c.Read(nil, &fuse.ReadIn{InHeader: header(1), Fh: open.Fh}, buf); st != fuse.EBADF {
		t.Errorf("read by another connection's handle: %v", st)
	}
}

func newOtherConnection(t *testing.T, u *union) client {
	u.config.Upper = nil
	return newClient(t, u)
}

func TestKindsOfRequestsOnTheWrongKindOfFile(t *testing.T) {
	u := prepareUnion(t, tree{"f": "x", "d/e/x": "y"})
	c := newClient(t, u)
	f, d := c.lookup(1, "f"), c.lookup(1, "d")
	e := c.lookup(d, "e")
	hf, hd := header(f), header(d)
	if st := c.c.Lookup(nil, &hf, "x", &fuse.EntryOut{}); st != fuse.ENOTDIR {
		t.Errorf("look-up in a file: %v", st)
	}
	if _, st := c.c.Readlink(nil, &hf); st != fuse.EINVAL {
		t.Errorf("readlink of a file: %v", st)
	}
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: hd}, &fuse.OpenOut{}); st.Ok() {
		t.Error("a folder opened as a file")
	}
	if st := c.c.ReadDir(nil, &fuse.ReadIn{InHeader: hf}, fuse.NewDirEntryList(make([]byte, 100), 0)); st != fuse.ENOTDIR {
		t.Errorf("readdir of a file: %v", st)
	}
	if st := c.c.Rename(nil, &fuse.RenameIn{InHeader: header(1), Newdir: e}, "d", "x2"); st != fuse.EINVAL {
		t.Errorf("rename of a folder into itself: %v", st)
	}
	if st := c.c.Rename(nil, &fuse.RenameIn{InHeader: header(1), Newdir: f}, "d", "x2"); st != fuse.ENOTDIR {
		t.Errorf("rename into a file: %v", st)
	}
	if st := c.c.Link(nil, &fuse.LinkIn{InHeader: header(1), Oldnodeid: d}, "hard", &fuse.EntryOut{}); st != fuse.EPERM {
		t.Errorf("hard link of a folder: %v", st)
	}
	if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: hf}, "user.big", make([]byte, 1<<20)); st != fuse.Status(unix.E2BIG) {
		t.Errorf("attribute of 1 MiB: %v", st)
	}
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: hf, Flags: ^uint32(0)}, &fuse.OpenOut{}); st.Ok() {
		t.Error("every open flag at once")
	}
	set := &fuse.SetAttrIn{}
	set.InHeader, set.Valid, set.Size = hf, fuse.FATTR_SIZE, ^uint64(0)
	if st := c.c.SetAttr(nil, set, &fuse.AttrOut{}); st.Ok() {
		t.Error("a size of 2^64-1")
	}
}

// digest sums up all that is below dir.
func digest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(h, path, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim)
		if e.Type().IsRegular() {
			contents, err := os.ReadFile(path)
			h.Write(contents)
			return err
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestHostLinksSwappedUnderAnOpenFolderAreNotFollowed(t *testing.T) {
	u := prepareUnion(t)
	outside := t.TempDir()
	tree{"d/f": "outside", "secret": "outside"}.write(t, outside)
	before := digest(t, outside)
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Shared: true}
	tree{"d/f": "inside", "g": "inside"}.write(t, u.upper)
	c := newClient(t, u)
	d, g := c.lookup(1, "d"), c.lookup(1, "g")
	must(t, os.Rename(u.upper+"/d", u.upper+"/d.old"))
	must(t, os.Symlink(outside+"/d", u.upper+"/d"))
	must(t, os.Remove(u.upper+"/g"))
	must(t, os.Symlink(outside+"/secret", u.upper+"/g"))
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(g), Flags: unix.O_RDWR | unix.O_TRUNC}, &fuse.OpenOut{}); st.Ok() {
		t.Error("a link was opened")
	}
	set := &fuse.SetAttrIn{}
	set.InHeader, set.Valid, set.Mode = header(g), fuse.FATTR_MODE, 0o777
	c.c.SetAttr(nil, set, &fuse.AttrOut{})
	set.Valid, set.Size = fuse.FATTR_SIZE, 0
	c.c.SetAttr(nil, set, &fuse.AttrOut{})
	h := header(d)
	c.c.Unlink(nil, &h, "f")
	c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "made", &fuse.EntryOut{})
	c.c.Create(nil, &fuse.CreateIn{InHeader: h, Flags: unix.O_RDWR}, "f", &fuse.CreateOut{})
	c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: header(g)}, "user.x", []byte("x"))
	if digest(t, outside) != before {
		t.Error("something outside the upper has changed")
	}
}

func TestHostSpecialsAreNeverOpened(t *testing.T) {
	u := prepareUnion(t)
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Shared: true}
	must(t, unix.Mkfifo(u.upper+"/fifo", 0o666))
	must(t, unix.Mknod(u.upper+"/dev", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(t, os.WriteFile(u.upper+"/f", nil, 0o666))
	c := newClient(t, u)
	f := c.lookup(1, "f")
	for _, name := range []string{"fifo", "dev"} {
		if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(c.lookup(1, name))}, &fuse.OpenOut{}); st.Ok() {
			t.Errorf("%s was opened", name)
		}
	}
	// A file that has become a fifo since it was looked up must not hang the server.
	must(t, os.Remove(u.upper+"/f"))
	must(t, unix.Mkfifo(u.upper+"/f", 0o666))
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(f)}, &fuse.OpenOut{}); st.Ok() {
		t.Error("a fifo in a file's place was opened")
	}
}
