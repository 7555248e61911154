package fusefs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// requests counts what the kernel asks a mount, by kind, in go-fuse's debug log. FORGET is not asked but told.
type requests struct {
	mu     sync.Mutex
	counts map[string]int
}

var received = regexp.MustCompile(`rx \d+: (\S+)`)

func (r *requests) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind := received.FindSubmatch(line); kind != nil && !bytes.Contains(kind[1], []byte("FORGET")) {
		r.counts[string(kind[1])]++
	}
	return len(line), nil
}

// debugged mounts the union so that its requests can be counted.
func (u *union) debugged() {
	log.SetOutput(io.Discard)
	u.t.Cleanup(func() {
		u.unmount()
		log.SetOutput(os.Stderr)
	})
	u.options.Debug = true
	u.remount()
}

func (u *union) count(work func()) map[string]int {
	r := &requests{counts: make(map[string]int)}
	log.SetOutput(r)
	defer log.SetOutput(io.Discard)
	work()
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

func (u *union) wantNoRequest(what string, work func()) {
	u.t.Helper()
	if got := u.count(work); len(got) > 0 {
		u.t.Errorf("%s: asked the server %v, want nothing", what, got)
	}
}

// find does what find -printf does: it lists every folder, and looks at every file.
func (u *union) find() {
	u.t.Helper()
	must(u.t, filepath.WalkDir(u.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		return unix.Lstat(path, &st)
	}))
}

// readAll reads every regular file.
func (u *union) readAll() {
	u.t.Helper()
	must(u.t, filepath.WalkDir(u.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = os.ReadFile(path)
		}
		return err
	}))
}

// bigTree has folders of many entries: more than one reply holds.
func bigTree() []record {
	secret := file("secret", "secret")
	secret.Mode = unix.S_IFREG | 0o600
	records := []record{secret}
	for d := range 2 {
		for f := range 250 {
			records = append(records, file(fmt.Sprintf("dir%d/file%d", d, f), fmt.Sprint(d, f)))
		}
	}
	return records
}

// imageMount mounts an image as mica mount does: read-only.
func imageMount(t *testing.T) *union {
	u := prepareUnion(t)
	u.config = fusefs.Config{
		Layers:    []fusefs.Layer{indexed(t, bigTree()), indexed(t, []record{file("dir1/top", "top"), {path: "dir1/file1"}})},
		Synthetic: []fusefs.SyntheticEntry{{Path: "/etc/hosts", Mode: unix.S_IFREG | 0o644, Data: []byte("image")}},
	}
	u.options.ReadOnly = true
	u.debugged()
	return u
}

func TestWarmKernelDoesWithoutTheServer(t *testing.T) {
	u := imageMount(t)
	cold := u.count(u.find)
	if each := cold["LOOKUP"] + cold["GETATTR"]; each > 10 {
		t.Errorf("a cold find looked up %d of 500 files one by one: %v", each, cold)
	}
	u.wantNoRequest("find", u.find)
	u.readAll()
	u.wantNoRequest("read", u.readAll)
	gone := filepath.Join(u.dir, "dir1/file1")
	_, _ = os.Lstat(gone)
	u.wantNoRequest("stat of what is not there", func() {
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("lstat: %v", err)
		}
	})
}

func TestWarmFindOfWritableMount(t *testing.T) {
	u := prepareUnion(t)
	u.config.Layers = []fusefs.Layer{indexed(t, bigTree())}
	u.debugged()
	for i := range 100 {
		u.write(fmt.Sprintf("dir0/new%d", i), "new")
	}
	u.find()
	u.find() // the first one has cost the kernel what it knew of the folders' times of access
	u.wantNoRequest("find", u.find)
	// What the kernel has cached follows what is done.
	must(t, os.Remove(u.path("dir0/new0")))
	must(t, os.Remove(u.path("dir0/file0")))
	must(t, os.Rename(u.path("dir0/new1"), u.path("dir0/moved")))
	entries, err := os.ReadDir(u.path("dir0"))
	must(t, err)
	names := make(map[string]bool)
	for _, e := range entries {
		names[e.Name()] = true
	}
	if len(entries) != 348 || names["new0"] || names["file0"] || names["new1"] || !names["moved"] {
		t.Errorf("%d names in dir0: %v", len(entries), slices.Sorted(maps.Keys(names)))
	}
}

// Without OPEN, nobody but the kernel refuses what a read-only mount refuses.
func TestReadOnlyMountRefusesChanges(t *testing.T) {
	u := imageMount(t)
	u.readAll()
	name := u.path("dir1/file2")
	for what, err := range map[string]error{
		"open for writing":   opened(name, unix.O_WRONLY),
		"open to truncate":   opened(name, unix.O_RDONLY|unix.O_TRUNC),
		"open to append":     opened(name, unix.O_RDWR|unix.O_APPEND),
		"create":             opened(u.path("dir1/new"), unix.O_CREAT|unix.O_WRONLY),
		"truncate":           unix.Truncate(name, 0),
		"chmod":              unix.Chmod(name, 0o600),
		"unlink":             unix.Unlink(name),
		"mkdir":              unix.Mkdir(u.path("new"), 0o755),
		"set of an xattr":    unix.Setxattr(name, "user.x", []byte("1"), 0),
		"rename":             unix.Rename(name, u.path("new")),
		"change of the time": unix.Utimes(name, []unix.Timeval{{}, {}}),
	} {
		if err != unix.EROFS {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	if err := opened(u.path("dir1"), unix.O_RDWR); err != unix.EISDIR {
		t.Errorf("open of a folder for writing: %v", err)
	}
	u.wantContents("dir1/file2", "1 2")
	unreadable := exec.Command("cat", u.path("secret"))
	unreadable.SysProcAttr = nobody
	if err := unreadable.Run(); err == nil {
		t.Error("nobody reads what is root's alone")
	}
}

func opened(name string, flags int) error {
	fd, err := unix.Open(name, flags, 0o644)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// More files are read than the server keeps open.
func TestReadsOfManyFilesByNode(t *testing.T) {
	u := imageMount(t)
	var files []*os.File
	for d := range 2 {
		for f := range 250 {
			if d == 1 && f == 1 {
				continue
			}
			f, err := os.Open(u.path(fmt.Sprintf("dir%d/file%d", d, f)))
			must(t, err)
			defer f.Close()
			files = append(files, f)
		}
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for _, f := range files {
				var buf [16]byte
				n, err := f.ReadAt(buf[:], 0)
				want := strings.NewReplacer("/dir", "", "/file", " ").Replace(strings.TrimPrefix(f.Name(), u.dir))
				if string(buf[:n]) != want {
					t.Errorf("%s: %q (%v)", f.Name(), buf[:n], err)
				}
			}
		})
	}
	readers.Wait()
	if end, err := files[0].Seek(0, unix.SEEK_HOLE); err != nil || end != 3 {
		t.Errorf("first hole at %d (%v), want 3", end, err)
	}
}

func TestSyntheticLayerChangesUnderWarmKernel(t *testing.T) {
	u := imageMount(t)
	for _, contents := range []string{"live", "again"} {
		u.find()
		u.readAll()
		must(t, u.fs.SetSynthetic([]fusefs.SyntheticEntry{
			{Path: "/etc/hosts", Mode: unix.S_IFREG | 0o644, Data: []byte(contents)},
			{Path: "/etc/" + contents, Mode: unix.S_IFREG | 0o644, Data: []byte(contents)},
		}))
		u.eventually("etc/hosts", contents)
		u.eventually("etc/"+contents, contents)
		u.wantNames("etc", slices.Sorted(slices.Values([]string{contents, "hosts"}))...)
	}
}

const smallFiles = 200

// archiveOfSmallFiles gives the path of a tar file.
func archiveOfSmallFiles(t *testing.T) string {
	source := t.TempDir()
	for i := range smallFiles {
		must(t, os.WriteFile(filepath.Join(source, fmt.Sprint("file", i)), []byte("contents"), 0o640))
	}
	archive := filepath.Join(t.TempDir(), "tar")
	must(t, exec.Command("tar", "-C", source, "-cf", archive, ".").Run())
	return archive
}

func (u *union) untar(archive, to string, options ...string) {
	u.t.Helper()
	if out, err := exec.Command("tar", append(options, "-C", u.path(to), "-xf", archive)...).CombinedOutput(); err != nil {
		u.t.Errorf("tar: %v\n%s", err, out)
	}
}

// Untar of small files as an ordinary user does it: LOOKUP, CREATE, GETXATTR, WRITE, SETATTR and RELEASE are Linux's, and a GETATTR of the
// folder, whose mode it checks anew after each change.
func TestUntarAsksLittle(t *testing.T) {
	archive := archiveOfSmallFiles(t)
	u := prepareUnion(t, tree{"etc/": ""})
	u.debugged()
	must(t, os.Mkdir(u.path("to"), 0o755))
	got := u.count(func() { u.untar(archive, "to", "--no-same-owner", "--no-same-permissions") })
	total := 0
	for _, n := range got {
		total += n
	}
	if total > 7*smallFiles+10 {
		t.Errorf("%d requests for %d files, at most 7 each: %v", total, smallFiles, got)
	}
}

// The owner and the mode of each file are set too. The host is asked: is the name free, twice; make it, what was made, twice; what is it
// now, after each of three changes and before two; and what the folder is.
func TestUntarCallsTheHostLittle(t *testing.T) {
	archive := archiveOfSmallFiles(t)
	u := prepareUnion(t, tree{"etc/": ""})
	u.config.Upper.RealOwners = true
	u.remount()
	must(t, os.Mkdir(u.path("to"), 0o755))
	calls := countSystemCalls(t, func() { u.untar(archive, "to", "--same-owner", "--same-permissions") })
	for call, most := range map[string]int{"openat2": 1, "newfstatat": 5, "statx": 5, "getxattr": 0} {
		if got := calls[call]; got > most*smallFiles+50 {
			t.Errorf("%d calls of %s for %d files, at most %d each: %v", got, call, smallFiles, most, calls)
		}
	}
}

// countSystemCalls counts those of the test's process, which is the server, and of its children.
func countSystemCalls(t *testing.T, work func()) map[string]int {
	report := filepath.Join(t.TempDir(), "strace")
	strace := exec.Command("strace", "-f", "-c", "-U", "name,calls", "-o", report, "-p", fmt.Sprint(os.Getpid()))
	said, err := strace.StderrPipe()
	must(t, err)
	if err := strace.Start(); err != nil {
		t.Fatalf("%v: run tests/setup.sh", err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); !strings.Contains(line, "attached") {
		t.Fatalf("strace: %q (%v)", line, err)
	}
	work()
	must(t, strace.Process.Signal(os.Interrupt))
	_ = strace.Wait()
	table, err := os.ReadFile(report)
	must(t, err)
	calls := make(map[string]int)
	for line := range strings.Lines(string(table)) {
		var name string
		var count int
		if _, err := fmt.Sscan(line, &name, &count); err == nil {
			calls[name] = count
		}
	}
	return calls
}

func TestLookupOfKnownNameAllocatesNothing(t *testing.T) {
	fsys, err := fusefs.New(fusefs.Config{Layers: []fusefs.Layer{indexed(t, bigTree()), indexed(t, bigTree())}})
	must(t, err)
	defer fsys.Close()
	c := fsys.Connect(fusefs.ConnectOptions{Guest: true})
	defer c.Close()
	var out fuse.EntryOut
	root := &fuse.InHeader{NodeId: 1}
	for what, name := range map[string]string{"folder": "dir0", "file": "secret", "name that is not there": "absent"} {
		if n := testing.AllocsPerRun(100, func() { c.Lookup(nil, root, name, &out) }); n > 0 {
			t.Errorf("look-up of a %s: %v allocations", what, n)
		}
	}
}

// TestGuestListsFoldersOnce shows a client that changes the union alone, and cannot be told of a new synthetic layer.
func TestGuestListsFoldersOnce(t *testing.T) {
	u := prepareUnion(t)
	u.config.Layers = []fusefs.Layer{indexed(t, append(bigTree(), file("etc/passwd", "root")))}
	u.config.Synthetic = []fusefs.SyntheticEntry{{Path: "/etc/hosts", Mode: unix.S_IFREG | 0o644, Data: []byte("image")}}
	u.options.Guest = true
	u.debugged()
	u.find()
	warm := u.count(u.find)
	for kind, n := range warm {
		if strings.Contains(kind, "DIR") {
			t.Errorf("a warm find asked for %s %d times", kind, n)
		}
	}
	must(t, os.WriteFile(u.path("dir0/new"), []byte("new"), 0o644))
	must(t, os.Remove(u.path("dir1/file1")))
	if got := u.names("dir0"); len(got) != 251 || !slices.Contains(got, "new") {
		t.Errorf("dir0 has %d names after one was added, want 251", len(got))
	}
	if got := u.names("dir1"); len(got) != 249 || slices.Contains(got, "file1") {
		t.Errorf("dir1 has %d names after one was removed, want 249", len(got))
	}
	must(t, u.fs.SetSynthetic([]fusefs.SyntheticEntry{{Path: "/etc/resolv.conf", Mode: unix.S_IFREG | 0o644, Data: []byte("live")}}))
	u.eventually("etc/resolv.conf", "live")
	u.eventuallyNames("etc", "passwd", "resolv.conf")
}
