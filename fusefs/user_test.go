package fusefs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/micavm/mica/fusefs"
)

// TestOrdinaryUser runs the test of that name in testing's binary again, as nobody.
func TestOrdinaryUser(t *testing.T) {
	if dir := os.Getenv("MICA_TEST_ORDINARY_USER"); dir != "" {
		asOrdinaryUser(t, dir)
		return
	}
	dir := folderOfNobody(t, "upper", "work", "lower")
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^TestOrdinaryUser$", "-test.v")
	cmd.Env = append(os.Environ(), "MICA_TEST_ORDINARY_USER="+dir)
	cmd.Dir = dir
	cmd.SysProcAttr = nobody
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// asOrdinaryUser drives a union as a guest's root does that an ordinary user has started.
func asOrdinaryUser(t *testing.T, dir string) {
	low := record{path: "etc/shadow", contents: "secret"}
	low.Mode, low.UID, low.GID, low.Size = unix.S_IFREG|0o600, 0, 42, 6
	u := &union{t: t, upper: dir + "/upper", work: dir + "/work"}
	u.config.Layers = []fusefs.Layer{indexed(t, []record{low})}
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Work: u.work}
	c := newClient(t, u)
	owner := func(node uint64) (uint32, uint32, uint32, uint32) {
		var out fuse.AttrOut
		if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(node)}, &out); !st.Ok() {
			t.Fatalf("getattr: %v", st)
		}
		return out.Uid, out.Gid, out.Mode, out.Rdev
	}
	want := func(what string, node uint64, uid, gid, mode, rdev uint32) {
		t.Helper()
		u, g, m, r := owner(node)
		if u != uid || g != gid || m != mode || r != rdev {
			t.Errorf("%s: %d:%d %#o %#x, want %d:%d %#o %#x", what, u, g, m, r, uid, gid, mode, rdev)
		}
	}
	root := header(1)
	var made fuse.EntryOut
	device := uint32(unix.Mkdev(1, 3))
	for _, st := range []fuse.Status{
		c.c.Mknod(nil, &fuse.MknodIn{InHeader: root, Mode: unix.S_IFCHR | 0o666, Rdev: device}, "null", &made),
		c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: root, Mode: 0o1777}, "tmp", &made),
		c.c.Mknod(nil, &fuse.MknodIn{InHeader: root, Mode: unix.S_IFREG | 0o4755}, "suid", &made),
		c.c.Mknod(nil, &fuse.MknodIn{InHeader: root, Mode: unix.S_IFREG | 0o644}, "plain", &made),
	} {
		if !st.Ok() {
			t.Fatal(st)
		}
	}
	want("null", c.lookup(1, "null"), 0, 0, unix.S_IFCHR|0o666, device)
	want("tmp", c.lookup(1, "tmp"), 0, 0, unix.S_IFDIR|0o1777, 0)
	want("suid", c.lookup(1, "suid"), 0, 0, unix.S_IFREG|0o4755, 0)
	want("plain", c.lookup(1, "plain"), 0, 0, unix.S_IFREG|0o644, 0)
	shadow := c.lookup(c.lookup(1, "etc"), "shadow")
	want("shadow", shadow, 0, 42, unix.S_IFREG|0o600, 0)
	set := &fuse.SetAttrIn{}
	set.InHeader, set.Valid, set.Uid, set.Gid, set.Mode = header(shadow), fuse.FATTR_UID|fuse.FATTR_GID|fuse.FATTR_MODE, 1000, 1001, 0
	if st := c.c.SetAttr(nil, set, &fuse.AttrOut{}); !st.Ok() {
		t.Fatalf("setattr: %v", st)
	}
	want("shadow", shadow, 1000, 1001, unix.S_IFREG, 0)
	if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: header(shadow)}, "security.capability", capability); !st.Ok() {
		t.Errorf("set a capability: %v", st)
	}
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(shadow), Flags: unix.O_RDWR}, &fuse.OpenOut{}); !st.Ok() {
		t.Errorf("open a file of mode 0: %v", st)
	}
	etc := header(c.lookup(1, "etc"))
	if st := c.c.Unlink(nil, &etc, "shadow"); !st.Ok() {
		t.Errorf("unlink: %v", st)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(u.upper+"/etc/shadow", &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("mode %#o where a whiteout should be", st.Mode)
	}
}
