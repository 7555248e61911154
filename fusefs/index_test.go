package fusefs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/layers/index"
)

// indexed makes a layer with an index: what the records say, and contents for the regular files.
func indexed(t testing.TB, records []record) fusefs.Layer {
	t.Helper()
	dir := t.TempDir()
	b := index.NewBuilder("sha256:test")
	for _, r := range records {
		if r.Record.Mode == 0 && r.Hardlink == "" {
			must(t, b.Whiteout(r.path))
			continue
		}
		must(t, b.Add(r.path, r.Record))
		if r.Mode&unix.S_IFMT == unix.S_IFREG && r.Hardlink == "" {
			path := filepath.Join(dir, "fs", r.path)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(r.contents), 0o600))
		}
	}
	must(t, os.MkdirAll(filepath.Join(dir, "fs"), 0o755))
	var out bytes.Buffer
	_, err := b.WriteTo(&out)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "index"), out.Bytes(), 0o644))
	return fusefs.Layer{Dir: filepath.Join(dir, "fs"), Index: filepath.Join(dir, "index")}
}

type record struct {
	path, contents string
	index.Record
}

func file(path, contents string) record {
	return record{path, contents, index.Record{Mode: unix.S_IFREG | 0o644, Size: uint64(len(contents)), Sec: 1e9}}
}

func TestIndexedLayersShowWhatTheirTarsSaid(t *testing.T) {
	suid := file("usr/bin/su", "binary")
	suid.Mode, suid.UID, suid.GID = unix.S_IFREG|0o4755, 0, 42
	suid.Xattrs = map[string]string{"security.capability": string(capability)}
	secret := file("etc/shadow", "secret")
	secret.Mode, secret.UID = unix.S_IFREG, 7
	u := prepareUnion(t)
	u.config.Layers = []fusefs.Layer{
		indexed(t, []record{
			suid, secret, file("etc/hosts", "bottom"), file("var/old", "old"),
			{"usr/bin/sudo", "", index.Record{Hardlink: "usr/bin/su"}},
			{"dev/null", "", index.Record{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}},
			{"bin", "", index.Record{Mode: unix.S_IFLNK | 0o777, Target: "usr/bin"}},
			{"tmp", "", index.Record{Mode: unix.S_IFDIR | 0o1777, Sec: 12345}},
		}),
		indexed(t, []record{
			file("etc/hosts", "top"),
			{path: "var/old"}, // a whiteout
		}),
	}
	u.remount()
	stat := func(name string) unix.Stat_t {
		var st unix.Stat_t
		must(t, unix.Lstat(u.path(name), &st))
		return st
	}
	check := func() {
		t.Helper()
		if st := stat("usr/bin/su"); st.Mode != unix.S_IFREG|0o4755 || st.Gid != 42 || st.Nlink != 2 {
			t.Errorf("su: mode %#o group %d names %d", st.Mode, st.Gid, st.Nlink)
		}
		if a, b := stat("usr/bin/su"), stat("usr/bin/sudo"); a.Ino != b.Ino {
			t.Error("su and sudo are two inodes")
		}
		if st := stat("dev/null"); st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("null: mode %#o device %#x", st.Mode, st.Rdev)
		}
		if st := stat("tmp"); st.Mode != unix.S_IFDIR|0o1777 || st.Mtim.Sec != 12345 {
			t.Errorf("tmp: mode %#o time %d", st.Mode, st.Mtim.Sec)
		}
		u.wantContents("bin/sudo", "binary")
		u.wantContents("etc/shadow", "secret")
		u.wantContents("etc/hosts", "top")
		u.wantNames("var")
		u.wantNames("", "bin", "dev", "etc", "tmp", "usr", "var")
	}
	check()
	// The same after each has been copied up.
	for _, name := range []string{"usr/bin/sudo", "etc/shadow", "dev/null", "tmp"} {
		must(t, unix.Setxattr(u.path(name), "trusted.touched", []byte("1"), 0))
	}
	check()
	u.remount()
	check()
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(u.path("usr/bin/su"), "security.capability", buf); err != nil || string(buf[:n]) != string(capability) {
		t.Errorf("capability of su: %q (%v)", buf[:max(n, 0)], err)
	}
	got, err := u.fs.ReadLower("/etc/hosts", 100)
	if string(got) != "top" {
		t.Errorf("ReadLower: %q (%v)", got, err)
	}
	if _, err := u.fs.ReadLower("/var/old", 100); !os.IsNotExist(err) {
		t.Errorf("ReadLower of what is not there: %v", err)
	}
}

// TestManyLayers shows a folder that is in so many layers that look-ups go by its merged names.
func TestManyLayers(t *testing.T) {
	u := prepareUnion(t)
	const layers = 12
	for i := range layers {
		own := fmt.Sprintf("d/of-%d", i)
		records := []record{file(own, own), file("d/all", own), file("d/sub/"+own[2:], own)}
		switch i {
		case 5:
			records = append(records, record{path: "d/of-2"}) // a whiteout
		case 7:
			records = append(records, file("d/of-2", "again"), record{path: "d/of-3"})
		}
		u.config.Layers = append(u.config.Layers, indexed(t, records))
	}
	u.remount()
	u.wantNames("d", "all", "of-0", "of-1", "of-10", "of-11", "of-2", "of-4", "of-5", "of-6", "of-7", "of-8", "of-9", "sub")
	u.wantContents("d/all", "d/of-11")
	u.wantContents("d/of-2", "again")
	for i := range layers {
		u.wantContents(fmt.Sprintf("d/sub/of-%d", i), fmt.Sprintf("d/of-%d", i))
	}
	for _, gone := range []string{"d/of-3", "d/never"} {
		if _, err := os.Stat(u.path(gone)); !os.IsNotExist(err) {
			t.Errorf("stat %s: %v, want that it is not there", gone, err)
		}
	}
	must(t, os.WriteFile(u.path("d/of-3"), []byte("new"), 0o644))
	must(t, os.Rename(u.path("d"), u.path("e")))
	u.remount()
	u.wantContents("e/of-3", "new")
	u.wantContents("e/of-0", "d/of-0")
}
