package fusefs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/micavm/mica/fusefs"
)

// A union is one that a test has mounted, of plain folders.
type union struct {
	t       *testing.T
	dir     string // the mount point
	lowers  []string
	upper   string
	work    string
	config  fusefs.Config
	fs      *fusefs.FS
	options fusefs.MountOptions
	mount   *fusefs.Mounted
}

// tree maps paths to contents; a path that ends in "/" is a folder.
type tree map[string]string

// newUnion mounts lower trees, bottom to top, below a new upper.
func newUnion(t *testing.T, lowers ...tree) *union {
	t.Helper()
	u := prepareUnion(t, lowers...)
	u.remount()
	return u
}

func prepareUnion(t *testing.T, lowers ...tree) *union {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests mount: run them as root (tests/setup.sh)")
	}
	base := t.TempDir()
	u := &union{t: t, dir: filepath.Join(base, "mnt"), upper: filepath.Join(base, "upper"), work: filepath.Join(base, "work")}
	for _, dir := range []string{u.dir, u.upper, u.work} {
		must(t, os.Mkdir(dir, 0o755))
	}
	for i, l := range lowers {
		dir := filepath.Join(base, "lower"+string(rune('0'+i)))
		must(t, os.Mkdir(dir, 0o755))
		l.write(t, dir)
		u.lowers = append(u.lowers, dir)
		u.config.Layers = append(u.config.Layers, fusefs.Layer{Dir: dir})
	}
	u.config.Upper = &fusefs.Upper{Dir: u.upper, Work: u.work}
	u.options = fusefs.MountOptions{DefaultPermissions: true, AllowOther: true, Source: "test"}
	t.Cleanup(u.unmount)
	return u
}

func (tr tree) write(t *testing.T, dir string) {
	t.Helper()
	for name, contents := range tr {
		path := filepath.Join(dir, name)
		if name[len(name)-1] == '/' {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(contents), 0o644))
	}
}

// remount closes the union, if it is open, and opens it again: nothing is remembered but what is on the disk.
func (u *union) remount() {
	u.t.Helper()
	u.unmount()
	fs, err := fusefs.New(u.config)
	must(u.t, err)
	m, err := fusefs.Mount(fs, u.dir, u.options)
	if err != nil {
		_ = fs.Close()
	}
	must(u.t, err)
	u.fs, u.mount = fs, m
}

func (u *union) unmount() {
	if u.mount == nil {
		return
	}
	u.t.Helper()
	if err := u.mount.Unmount(); err != nil {
		u.t.Errorf("unmount: %v", err)
	}
	if err := u.fs.Close(); err != nil {
		u.t.Errorf("close: %v", err)
	}
	u.mount = nil
}

func (u *union) path(name string) string { return filepath.Join(u.dir, name) }

func (u *union) write(name, contents string) {
	u.t.Helper()
	must(u.t, os.WriteFile(u.path(name), []byte(contents), 0o644))
}

func (u *union) wantContents(name, want string) {
	u.t.Helper()
	got, err := os.ReadFile(u.path(name))
	must(u.t, err)
	if string(got) != want {
		u.t.Errorf("%s: contents %q, want %q", name, got, want)
	}
}

func (u *union) wantGone(name string) {
	u.t.Helper()
	if _, err := os.Lstat(u.path(name)); !os.IsNotExist(err) {
		u.t.Errorf("%s: lstat: %v, want not to exist", name, err)
	}
}

// wantNames checks a folder's names, in sorted order.
// names are the folder's, sorted.
func (u *union) names(dir string) []string {
	u.t.Helper()
	entries, err := os.ReadDir(u.path(dir))
	must(u.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (u *union) wantNames(dir string, want ...string) {
	u.t.Helper()
	if got := u.names(dir); !slices.Equal(got, want) {
		u.t.Fatalf("%s: names %q, want %q", dir, got, want)
	}
}

// eventuallyNames is wantNames after a change that shows within a second.
func (u *union) eventuallyNames(dir string, want ...string) {
	u.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(u.names(dir), want) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	u.wantNames(dir, want...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folderOfNobody makes a folder with subfolders that are nobody's, and with the test binary as "test"; nobody can get there.
func folderOfNobody(t *testing.T, subfolders ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range subfolders {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
		must(t, os.Chown(filepath.Join(dir, sub), 65534, 65534))
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	binary, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "test"), binary, 0o755))
	return dir
}

// nobody runs a command as a user who owns nothing.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

func isErrno(err error, want syscall.Errno) bool { return errors.Is(err, want) }

// eventually waits until a file, whose change is believed within a second, has the contents.
func (u *union) eventually(name, want string) {
	u.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, err := os.ReadFile(u.path(name))
		if err == nil && string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("%s: contents %q (%v), want %q", name, got, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
