package fusefs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// attackedUnion is a union whose surroundings, all but the upper and the work folder, must be the same when the test ends.
func attackedUnion(t *testing.T, lowers ...tree) (*union, client) {
	t.Helper()
	u := prepareUnion(t, lowers...)
	outside := t.TempDir()
	tree{"sentinel": "outside", "d/f": "outside"}.write(t, outside)
	watched := append([]string{outside}, u.lowers...)
	before := make([]string, len(watched))
	for i, dir := range watched {
		before[i] = digest(t, dir)
	}
	t.Cleanup(func() {
		for i, dir := range watched {
			if digest(t, dir) != before[i] {
				t.Errorf("%s has changed", dir)
			}
		}
	})
	return u, newClient(t, u)
}

func (c client) create(dir uint64, name string, mode uint32) uint64 {
	c.t.Helper()
	var out fuse.CreateOut
	in := &fuse.CreateIn{InHeader: header(dir), Mode: mode, Flags: unix.O_RDWR | unix.O_EXCL}
	if st := c.c.Create(nil, in, name, &out); !st.Ok() {
		c.t.Fatalf("create %q: %v", name, st)
	}
	c.c.Release(nil, &fuse.ReleaseIn{Fh: out.Fh})
	return out.NodeId
}

func (c client) xattrs(node uint64) []string {
	c.t.Helper()
	h := header(node)
	buf := make([]byte, 64<<10)
	n, st := c.c.ListXAttr(nil, &h, buf)
	if !st.Ok() {
		c.t.Fatalf("list attributes: %v", st)
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
}

func TestReservedAttributesAreOutOfReach(t *testing.T) {
	u, c := attackedUnion(t, tree{"f": "x", "d/below": "x"})
	f, d := c.lookup(1, "f"), c.lookup(1, "d")
	set := &fuse.SetAttrIn{}
	set.InHeader, set.Valid, set.Mode, set.Owner.Uid = header(f), fuse.FATTR_MODE|fuse.FATTR_UID, 0o4711, 1234
	if st := c.c.SetAttr(nil, set, &fuse.AttrOut{}); !st.Ok() {
		t.Fatal(st)
	}
	for _, node := range []uint64{f, d} {
		for _, name := range []string{
			"user.containers.override_stat", "user.containers.anything", "user.fuseoverlayfs.opaque",
			"user.fuseoverlayfs.override_stat", "user.mica.security.capability", "user.mica-large.user.x",
		} {
			h := header(node)
			if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, name, []byte("0:0:0777")); st != fuse.EPERM {
				t.Errorf("set %s: %v", name, st)
			}
			if _, st := c.c.GetXAttr(nil, &h, name, make([]byte, 100)); st != fuse.ENODATA {
				t.Errorf("get %s: %v", name, st)
			}
			if st := c.c.RemoveXAttr(nil, &h, name); st != fuse.ENODATA {
				t.Errorf("remove %s: %v", name, st)
			}
		}
	}
	if got := c.xattrs(f); !slices.Equal(got, []string{""}) {
		t.Errorf("attributes %q, want none", got)
	}
	// The guest's own marks of overlayfs are its own: on the host they are others.
	for _, name := range []string{
		"user.overlay.opaque", "user.overlay.whiteout", "user.overlay.mica.redirect", "user.overlay.mica.metacopy",
		"user.overlay.mica.ino", "user.overlay.overlay.opaque",
	} {
		for _, node := range []uint64{f, d} {
			h := header(node)
			if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, name, []byte("y")); !st.Ok() {
				t.Errorf("set %s: %v", name, st)
			}
			buf := make([]byte, 10)
			if n, st := c.c.GetXAttr(nil, &h, name, buf); !st.Ok() || string(buf[:n]) != "y" {
				t.Errorf("get %s: %q, %v", name, buf[:n], st)
			}
		}
	}
	if _, err := unix.Lgetxattr(u.upper+"/d", "user.overlay.opaque", nil); err != unix.ENODATA {
		t.Errorf("the host folder has a mark of the guest's making: %v", err)
	}
	again := newClient(t, u)
	again.lookup(again.lookup(1, "d"), "below")
	again.lookup(1, "f")
}

// TestHostFilesAreOrdinary makes what would be dangerous on the host.
func TestHostFilesAreOrdinary(t *testing.T) {
	u, c := attackedUnion(t, tree{"low": "x", "lowdir/f": "x"})
	for name, mode := range map[string]uint32{
		"chr": unix.S_IFCHR | 0o6777, "blk": unix.S_IFBLK | 0o6777, "fifo": unix.S_IFIFO | 0o6777, "sock": unix.S_IFSOCK | 0o777,
		"reg": unix.S_IFREG | 0o6777,
	} {
		in := &fuse.MknodIn{InHeader: header(1), Mode: mode, Rdev: uint32(unix.Mkdev(8, 0))}
		in.Uid, in.Gid = 4711, 4712
		if st := c.c.Mknod(nil, in, name, &fuse.EntryOut{}); !st.Ok() {
			t.Errorf("mknod %s: %v", name, st)
		}
	}
	// The device 0:0 would be a whiteout.
	if st := c.c.Mknod(nil, &fuse.MknodIn{InHeader: header(1), Mode: unix.S_IFCHR | 0o666}, "zero", &fuse.EntryOut{}); !st.Ok() {
		t.Errorf("mknod of 0:0: %v", st)
	}
	c.create(1, "suid", 0o6777)
	if st := c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: header(1), Mode: 0o7777}, "dir", &fuse.EntryOut{}); !st.Ok() {
		t.Errorf("mkdir: %v", st)
	}
	h := header(1)
	if st := c.c.Symlink(nil, &h, "/etc/passwd", "link", &fuse.EntryOut{}); !st.Ok() {
		t.Errorf("symlink: %v", st)
	}
	for _, name := range []string{"low", "lowdir", "suid", "dir", "chr"} {
		set := &fuse.SetAttrIn{}
		set.InHeader, set.Valid, set.Mode = header(c.lookup(1, name)), fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID, 0o7777
		set.Owner = fuse.Owner{Uid: 4711, Gid: 4712}
		if st := c.c.SetAttr(nil, set, &fuse.AttrOut{}); !st.Ok() {
			t.Errorf("chmod %s: %v", name, st)
		}
	}
	must(t, filepath.WalkDir(u.upper, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
			t.Errorf("%s is of type 0%o on the host", path, kind)
		}
		if st.Mode&0o7000 != 0 || st.Uid != uint32(os.Geteuid()) {
			t.Errorf("%s has mode 0%o and owner %d on the host", path, st.Mode, st.Uid)
		}
		return nil
	}))
	again := newClient(t, u)
	var out fuse.EntryOut
	if st := again.c.Lookup(nil, &h, "zero", &out); !st.Ok() || out.Mode != unix.S_IFCHR|0o666 || out.Rdev != 0 {
		t.Errorf("the device 0:0 is %o %d: %v", out.Mode, out.Rdev, st)
	}
	if st := again.c.Lookup(nil, &h, "low", &out); !st.Ok() || out.Mode != unix.S_IFREG|0o7777 || out.Uid != 4711 {
		t.Errorf("low is %o of %d: %v", out.Mode, out.Uid, st)
	}
}

func TestASymbolicLinkIsNoWay(t *testing.T) {
	u, c := attackedUnion(t, tree{"f": "x"})
	h := header(1)
	var link fuse.EntryOut
	if st := c.c.Symlink(nil, &h, filepath.Dir(u.upper), "out", &link); !st.Ok() {
		t.Fatal(st)
	}
	in := header(link.NodeId)
	for name, st := range map[string]fuse.Status{
		"lookup":  c.c.Lookup(nil, &in, "upper", &fuse.EntryOut{}),
		"mkdir":   c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: in, Mode: 0o755}, "made", &fuse.EntryOut{}),
		"create":  c.c.Create(nil, &fuse.CreateIn{InHeader: in, Flags: unix.O_RDWR}, "made", &fuse.CreateOut{}),
		"unlink":  c.c.Unlink(nil, &in, "upper"),
		"rename":  c.c.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: link.NodeId}, "f", "f"),
		"opendir": c.c.OpenDir(nil, &fuse.OpenIn{InHeader: in}, &fuse.OpenOut{}),
		"tmpfile": c.c.Tmpfile(nil, &fuse.CreateIn{InHeader: in, Flags: unix.O_RDWR}, &fuse.CreateOut{}),
	} {
		if st != fuse.ENOTDIR {
			t.Errorf("%s in a link: %v", name, st)
		}
	}
	for name, st := range map[string]fuse.Status{
		"open":     c.c.Open(nil, &fuse.OpenIn{InHeader: in}, &fuse.OpenOut{}),
		"truncate": c.c.SetAttr(nil, sizeOf(in, 0), &fuse.AttrOut{}),
	} {
		if st.Ok() {
			t.Errorf("%s of a link", name)
		}
	}
}

func sizeOf(h fuse.InHeader, size uint64) *fuse.SetAttrIn {
	set := &fuse.SetAttrIn{}
	set.InHeader, set.Valid, set.Size = h, fuse.FATTR_SIZE, size
	return set
}

// TestAFolderSwappedByALinkWhileItIsUsed has the host swap a folder of a volume as fast as it can.
func TestAFolderSwappedByALinkWhileItIsUsed(t *testing.T) {
	u := prepareUnion(t)
	outside := t.TempDir()
	tree{"f": "outside", "g": "outside"}.write(t, outside)
	before := digest(t, outside)
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Shared: true}
	tree{"d/f": "inside", "d/g": "inside"}.write(t, u.upper)
	must(t, os.Symlink(outside, u.upper+"/link"))
	c := newClient(t, u)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, u.upper+"/d", unix.AT_FDCWD, u.upper+"/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	h := header(1)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		var d, f fuse.EntryOut
		if st := c.c.Lookup(nil, &h, "d", &d); !st.Ok() || d.NodeId == 0 {
			continue
		}
		in := header(d.NodeId)
		if st := c.c.Lookup(nil, &in, "f", &f); st.Ok() && f.NodeId != 0 {
			var open fuse.OpenOut
			if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(f.NodeId), Flags: unix.O_RDWR}, &open); st.Ok() {
				c.c.Writev(nil, &fuse.WriteIn{InHeader: header(f.NodeId), Fh: open.Fh}, [][]byte{[]byte("guest")})
				c.c.Release(nil, &fuse.ReleaseIn{Fh: open.Fh})
			}
			c.c.SetAttr(nil, sizeOf(header(f.NodeId), 0), &fuse.AttrOut{})
			c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: header(f.NodeId)}, "user.x", []byte("x"))
			c.c.Forget(f.NodeId, 1)
		}
		c.c.Unlink(nil, &in, "g")
		c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: in, Mode: 0o755}, "made", &fuse.EntryOut{})
		c.c.Rename(nil, &fuse.RenameIn{InHeader: in, Newdir: d.NodeId}, "made", "moved")
		c.c.Rmdir(nil, &in, "moved")
		c.c.Forget(d.NodeId, 1)
	}
	close(stop)
	<-stopped
	if digest(t, outside) != before {
		t.Error("something outside the upper has changed")
	}
}
