package fusefs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

func TestSpecialFilesAreOrdinaryOnTheHost(t *testing.T) {
	u := newUnion(t, tree{"d/": ""})
	must(t, unix.Mknod(u.path("fifo"), unix.S_IFIFO|0o640, 0))
	must(t, unix.Mknod(u.path("char"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))))
	must(t, unix.Mknod(u.path("zero"), unix.S_IFCHR|0o600, 0))
	must(t, unix.Mknod(u.path("block"), unix.S_IFBLK|0o640, int(unix.Mkdev(259, 70000))))
	must(t, unix.Mknod(u.path("sock"), unix.S_IFSOCK|0o755, 0))
	must(t, os.Symlink("/etc/passwd", u.path("link")))
	must(t, os.Lchown(u.path("link"), 33, 34))
	u.write("suid", "x")
	must(t, unix.Chmod(u.path("suid"), 0o6755))
	must(t, os.Chown(u.path("d"), 1000, 1001))
	must(t, unix.Chmod(u.path("d"), 0o3000))
	want := map[string]unix.Stat_t{
		"fifo":  {Mode: unix.S_IFIFO | 0o640},
		"char":  {Mode: unix.S_IFCHR | 0o600, Rdev: unix.Mkdev(5, 1)},
		"zero":  {Mode: unix.S_IFCHR | 0o600},
		"block": {Mode: unix.S_IFBLK | 0o640, Rdev: unix.Mkdev(259, 70000)},
		"sock":  {Mode: unix.S_IFSOCK | 0o755},
		"link":  {Mode: unix.S_IFLNK | 0o777, Uid: 33, Gid: 34},
		"suid":  {Mode: unix.S_IFREG | 0o6755},
		"d":     {Mode: unix.S_IFDIR | 0o3000, Uid: 1000, Gid: 1001},
	}
	check := func() {
		t.Helper()
		for name, w := range want {
			var st unix.Stat_t
			must(t, unix.Lstat(u.path(name), &st))
			if st.Mode != w.Mode || st.Uid != w.Uid || st.Gid != w.Gid || st.Rdev != w.Rdev {
				t.Errorf("%s: mode %#o owner %d:%d device %#x, want %#o %d:%d %#x",
					name, st.Mode, st.Uid, st.Gid, st.Rdev, w.Mode, w.Uid, w.Gid, w.Rdev)
			}
		}
	}
	check()
	u.remount()
	check()
	if target, err := os.Readlink(u.path("link")); target != "/etc/passwd" {
		t.Errorf("link to %q (%v)", target, err)
	}
	must(t, filepath.Walk(u.upper, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if m := info.Mode(); !m.IsDir() && !m.IsRegular() || m&(os.ModeSetuid|os.ModeSetgid) != 0 || m.Perm()&0o600 != 0o600 {
			t.Errorf("%s has mode %v on the host", path, m)
		}
		return nil
	}))
}

func TestMetadataOnlyCopyUp(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<16)
	u := newUnion(t, tree{"big": big, "other": big})
	must(t, os.Chmod(u.path("big"), 0o4711))
	must(t, os.Chown(u.path("big"), 7, 8))
	var st unix.Stat_t
	must(t, unix.Lstat(u.upper+"/big", &st))
	if st.Blocks > 64 || st.Size != int64(len(big)) {
		t.Errorf("the upper has %d blocks and size %d, want no data", st.Blocks, st.Size)
	}
	u.wantContents("big", big)
	u.remount()
	u.wantContents("big", big)
	f, err := os.OpenFile(u.path("big"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("X"), 5)
	must(t, err)
	must(t, f.Close())
	want := big[:5] + "X" + big[6:]
	u.wantContents("big", want)
	u.remount()
	u.wantContents("big", want)
	must(t, os.Chmod(u.path("other"), 0o600))
	must(t, os.Rename(u.path("other"), u.path("moved")))
	must(t, os.Truncate(u.path("moved"), 3))
	u.wantContents("moved", "012")
	u.remount()
	u.wantContents("moved", "012")
	u.wantGone("other")
}

func TestSparseFilesStaySparse(t *testing.T) {
	u := prepareUnion(t, tree{})
	f, err := os.Create(u.lowers[0] + "/sparse")
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 64<<20)
	must(t, err)
	must(t, f.Close())
	u.remount()
	f, err = os.OpenFile(u.path("sparse"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("start"), 0)
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Lstat(u.upper+"/sparse", &st))
	if st.Blocks > 256 {
		t.Errorf("%d blocks after copy-up", st.Blocks)
	}
	if hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); err != nil || hole == 0 || hole > 1<<20 {
		t.Errorf("the first hole is at %d (%v)", hole, err)
	}
}

func TestXattrs(t *testing.T) {
	u := prepareUnion(t, tree{"f": "x", "d/": ""})
	must(t, unix.Setxattr(u.lowers[0]+"/f", "user.lower", []byte("below"), 0))
	must(t, unix.Setxattr(u.lowers[0]+"/f", "security.capability", capability, 0))
	u.remount()
	get := func(name, attr string) string {
		buf := make([]byte, 100<<10)
		n, err := unix.Lgetxattr(u.path(name), attr, buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	want := func(name, attr, value string) {
		t.Helper()
		if got := get(name, attr); got != value {
			t.Errorf("%s of %s is %.40q, want %.40q", attr, name, got, value)
		}
	}
	want("f", "user.lower", "below")
	want("f", "security.capability", string(capability))
	must(t, unix.Setxattr(u.path("f"), "user.mine", []byte("1"), 0))
	must(t, unix.Setxattr(u.path("f"), "trusted.t", []byte("2"), 0))
	must(t, unix.Setxattr(u.path("d"), "user.overlay.opaque", []byte("y"), 0))
	large := strings.Repeat("large", 10000)
	must(t, unix.Setxattr(u.path("f"), "user.large", []byte(large), 0))
	for range 2 {
		want("f", "user.lower", "below")
		want("f", "user.mine", "1")
		want("f", "trusted.t", "2")
		want("f", "user.large", large)
		want("f", "security.capability", string(capability))
		want("d", "user.overlay.opaque", "y")
		want("f", "user.containers.override_stat", unix.ENODATA.Error())
		want("f", "user.overlay.mica.ino", unix.ENODATA.Error())
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(u.path("f"), buf)
		must(t, err)
		names := strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
		if len(names) != 5 {
			t.Errorf("names %q, want 5", names)
		}
		u.remount()
	}
	for _, name := range []string{"user.containers.override_stat", "user.mica.x", "user.fuseoverlayfs.opaque", "user.mica-large.x"} {
		if err := unix.Setxattr(u.path("f"), name, []byte("0:0:0777"), 0); err != unix.EPERM {
			t.Errorf("set %s: %v", name, err)
		}
	}
	if err := unix.Setxattr(u.path("f"), "user.mine", nil, unix.XATTR_CREATE); err != unix.EEXIST {
		t.Errorf("XATTR_CREATE: %v", err)
	}
	must(t, unix.Removexattr(u.path("f"), "user.large"))
	want("f", "user.large", unix.ENODATA.Error())
	// A write costs the file its capability.
	u.write("f", "changed")
	want("f", "security.capability", unix.ENODATA.Error())
	left, err := os.ReadDir(u.work + "/mica-xattr")
	if err != nil || len(left) != 0 {
		t.Errorf("large values left: %v (%v)", left, err)
	}
}

// capability is cap_net_raw=ep, in the form of version 2 (capabilities(7)).
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func TestSetuidIsDroppedByWriting(t *testing.T) {
	u := newUnion(t, tree{"f": "x"})
	must(t, unix.Chmod(u.path("f"), 0o6777))
	for dir := u.dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, unix.Chmod(dir, 0o755))
	}
	cmd := exec.Command("sh", "-c", "echo y >>"+u.path("f"))
	cmd.SysProcAttr = nobody
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("write as another user: %v: %s", err, out)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(u.path("f"), &st))
	if st.Mode&0o7777 != 0o777 {
		t.Errorf("mode %#o after a write, want 0777", st.Mode&0o7777)
	}
	must(t, unix.Chmod(u.path("f"), 0o6777))
	must(t, os.Chown(u.path("f"), 5, 5))
	must(t, unix.Lstat(u.path("f"), &st))
	if st.Mode&0o7777 != 0o777 {
		t.Errorf("mode %#o after chown, want 0777", st.Mode&0o7777)
	}
}

func TestUnlinkedFilesLiveWhileOpen(t *testing.T) {
	u := newUnion(t, tree{"low": "lower"})
	for _, name := range []string{"low", "new"} {
		if name == "new" {
			u.write(name, "lower")
		}
		f, err := os.OpenFile(u.path(name), os.O_RDONLY, 0)
		must(t, err)
		must(t, os.Remove(u.path(name)))
		must(t, f.Chmod(0o600))
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		if st.Nlink != 0 || st.Mode&0o777 != 0o600 {
			t.Errorf("%s: %d names, mode %#o", name, st.Nlink, st.Mode)
		}
		w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
		must(t, err)
		_, err = w.WriteAt([]byte("W"), 0)
		must(t, err)
		got, err := io.ReadAll(f)
		if string(got) != "Wower" {
			t.Errorf("%s: read %q (%v)", name, got, err)
		}
		must(t, w.Close())
		must(t, f.Close())
		u.wantGone(name)
	}
	left, _ := os.ReadDir(u.work + "/mica")
	if len(left) > 0 {
		t.Errorf("work folder has %v", left)
	}
}

func TestTmpfileCanBeLinked(t *testing.T) {
	u := newUnion(t, tree{"d/": ""})
	fd, err := unix.Open(u.path("d"), unix.O_TMPFILE|unix.O_RDWR, 0o640)
	must(t, err)
	_, err = unix.Write(fd, []byte("hello"))
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, u.path("d/named"), unix.AT_SYMLINK_FOLLOW))
	must(t, unix.Close(fd))
	u.wantContents("d/named", "hello")
	u.wantNames("d", "named")
	u.remount()
	u.wantContents("d/named", "hello")
}

func TestLargeFolderKeepsItsPlaceWhileItShrinks(t *testing.T) {
	const count = 20000
	u := prepareUnion(t, tree{})
	for i := range count / 2 {
		must(t, os.WriteFile(fmt.Sprintf("%s/l%06d", u.lowers[0], i), nil, 0o644))
		must(t, os.WriteFile(fmt.Sprintf("%s/u%06d", u.upper, i), nil, 0o644))
	}
	u.remount()
	d, err := os.Open(u.dir)
	must(t, err)
	defer d.Close()
	seen := map[string]bool{}
	for {
		names, err := d.Readdirnames(100)
		if err == io.EOF {
			break
		}
		must(t, err)
		for _, name := range names {
			if seen[name] {
				t.Fatalf("%s twice", name)
			}
			seen[name] = true
			must(t, os.Remove(u.path(name)))
		}
	}
	if len(seen) != count {
		t.Errorf("%d names, want %d", len(seen), count)
	}
	u.wantNames("")
}

func TestReadOnlyUnion(t *testing.T) {
	u := prepareUnion(t, tree{"f": "x"})
	u.config.Upper = nil
	u.remount()
	u.wantContents("f", "x")
	if err := os.WriteFile(u.path("g"), nil, 0o644); !isErrno(err, unix.EROFS) {
		t.Errorf("create: %v", err)
	}
	if err := os.Chmod(u.path("f"), 0); !isErrno(err, unix.EROFS) {
		t.Errorf("chmod: %v", err)
	}
}

func TestWhiteoutForms(t *testing.T) {
	u := prepareUnion(t,
		tree{"a": "1", "b": "1", "c": "1", "d/x": "1", "e/x": "1", "f/x": "1"},
		tree{".wh.a": "", "c": "", "d/.wh..wh..opq": "", "d/y": "2", "e/y": "2", "f/y": "2"})
	low := u.lowers[1]
	must(t, unix.Mknod(low+"/b", unix.S_IFCHR, 0))
	must(t, unix.Setxattr(low+"/c", "user.overlay.whiteout", []byte("y"), 0))
	must(t, unix.Setxattr(low+"/e", "user.overlay.opaque", []byte("y"), 0))
	must(t, unix.Setxattr(low+"/f", "trusted.overlay.opaque", []byte("y"), 0))
	u.remount()
	u.wantNames("", "d", "e", "f")
	for _, name := range []string{"a", "b", "c", "d/x"} {
		u.wantGone(name)
	}
	for _, dir := range []string{"d", "e", "f"} {
		u.wantNames(dir, "y")
	}
	// A file of the union may have any name.
	u.write(".wh.x", "ordinary")
	u.write(".wh..wh..opq", "ordinary")
	u.wantContents(".wh.x", "ordinary")
	u.wantNames("", ".wh..wh..opq", ".wh.x", "d", "e", "f")
}

func TestSyntheticLayer(t *testing.T) {
	u := prepareUnion(t, tree{"etc/hosts": "image", "etc/passwd": "image", "etc/resolv.conf": "image"})
	entries := []fusefs.SyntheticEntry{
		{Path: "/.sandbox/scripts/start", Mode: unix.S_IFREG | 0o755, Data: []byte("#!/bin/sh\n")},
		{Path: "/etc/hosts", Mode: unix.S_IFREG | 0o644, Data: []byte("synthetic")},
		{Path: "/etc/resolv.conf", Mode: unix.S_IFREG | 0o644, Data: []byte("synthetic"), IfMissing: true},
		{Path: "/data/volume", Mode: unix.S_IFDIR | 0o755},
		{Path: "/etc/mtab", Mode: unix.S_IFLNK | 0o777, Data: []byte("/proc/mounts")},
	}
	u.config.Synthetic = entries
	u.remount()
	u.wantNames("", ".sandbox", "data", "etc")
	u.wantNames("etc", "hosts", "mtab", "passwd", "resolv.conf")
	u.wantContents("etc/hosts", "synthetic")
	u.wantContents("etc/resolv.conf", "image")
	u.wantContents(".sandbox/scripts/start", "#!/bin/sh\n")
	if err := os.Remove(u.path(".sandbox/scripts/start")); !isErrno(err, unix.EROFS) {
		t.Errorf("remove from /.sandbox: %v", err)
	}
	if err := os.WriteFile(u.path(".sandbox/x"), nil, 0o644); !isErrno(err, unix.EROFS) {
		t.Errorf("create in /.sandbox: %v", err)
	}
	u.write("data/volume/f", "kept")
	u.write("etc/passwd", "mine")
	u.remount()
	u.wantContents("data/volume/f", "kept")
	u.wantContents("etc/hosts", "synthetic")
	u.wantContents("etc/passwd", "mine")

	entries[0].Data, entries[1].Data = []byte("#!/bin/bash\n"), []byte("live")
	must(t, u.fs.SetSynthetic(entries))
	u.eventually("etc/hosts", "live")
	u.eventually(".sandbox/scripts/start", "#!/bin/bash\n")
	// What is written in the union is the union's own from then on.
	u.write("etc/hosts", "guest")
	must(t, u.fs.SetSynthetic(entries))
	u.wantContents("etc/hosts", "guest")
	must(t, os.Remove(u.path("etc/hosts")))
	u.wantGone("etc/hosts")
	u.wantNames("etc", "mtab", "passwd", "resolv.conf")
	u.remount()
	u.wantGone("etc/hosts")
}

func TestVolume(t *testing.T) {
	u := prepareUnion(t)
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Shared: true}
	must(t, os.Symlink("/etc/passwd", u.upper+"/link"))
	must(t, os.WriteFile(u.upper+"/host", []byte("host"), 0o644))
	u.remount()
	u.wantNames("", "host", "link")
	if target, err := os.Readlink(u.path("link")); target != "/etc/passwd" {
		t.Errorf("link to %q (%v)", target, err)
	}
	must(t, os.WriteFile(u.upper+"/later", []byte("later"), 0o644))
	u.eventually("later", "later")
	u.write("guest", "guest")
	got, err := os.ReadFile(u.upper + "/guest")
	must(t, err)
	if string(got) != "guest" {
		t.Errorf("the host reads %q", got)
	}
	must(t, os.Chmod(u.path("guest"), 0o4755))
	must(t, os.Symlink("guest", u.path("gl")))
	must(t, os.Rename(u.path("guest"), u.path("renamed")))
	must(t, os.RemoveAll(u.path("host")))
	u.wantNames("", "gl", "later", "link", "renamed")
	info, err := os.Lstat(u.upper + "/renamed")
	must(t, err)
	if info.Mode()&os.ModeSetuid != 0 {
		t.Error("a setuid file on the host")
	}
}

func TestAppendAcrossDescriptors(t *testing.T) {
	u := newUnion(t, tree{"log": "0"})
	var files []*os.File
	for range 2 {
		f, err := os.OpenFile(u.path("log"), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	var want bytes.Buffer
	want.WriteString("0")
	for i := range 10 {
		line := fmt.Sprint(i)
		_, err := files[i%2].WriteString(line)
		must(t, err)
		want.WriteString(line)
	}
	u.wantContents("log", want.String())
}
