package durability

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/testenv"
)

// A disk is an ext4 filesystem in a file, with the folders of an upper.
type disk struct{ image, dir string }

func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	testenv.Root(t)
	base := t.TempDir()
	d := &disk{image: filepath.Join(base, "image"), dir: filepath.Join(base, "disk")}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, size))
	must(t, os.Mkdir(d.dir, 0o755))
	testenv.Run(t, testenv.Tool(t, "mkfs.ext4"), "-q", "-F", d.image)
	d.mount(t)
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	for _, name := range []string{"upper", "work"} {
		must(t, os.Mkdir(filepath.Join(d.dir, name), 0o755))
	}
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	testenv.Run(t, testenv.Tool(t, "mount"), "-o", "loop", d.image, d.dir)
}

// cutPower ends all writing to the disk: what is not in its journal is lost. It is mounted again, as after a boot.
func (d *disk) cutPower(t *testing.T) {
	t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
		noLogFlush = 2
	)
	f, err := os.Open(d.dir)
	must(t, err)
	err = unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush)
	must(t, f.Close())
	if err != nil {
		t.Fatalf("shut ext4 down: %v", err)
	}
}

func (d *disk) boot(t *testing.T) {
	t.Helper()
	must(t, unix.Unmount(d.dir, 0))
	d.mount(t)
}

func (d *disk) free(t *testing.T) uint64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(d.dir, &st))
	return st.Bfree * uint64(st.Bsize)
}

// TestFullDisk copies up what the disk has no room for.
func TestFullDisk(t *testing.T) {
	d := newDisk(t, 16<<20)
	lower := t.TempDir()
	must(t, os.WriteFile(filepath.Join(lower, "big"), make([]byte, 24<<20), 0o644))
	must(t, os.WriteFile(filepath.Join(lower, "small"), []byte("small"), 0o644))
	must(t, os.Link(filepath.Join(lower, "big"), filepath.Join(lower, "link")))
	must(t, makeOld(lower))
	fs, c := openUnion(t, lower, d.dir)
	before, err := c.dump("")
	must(t, err)
	free := d.free(t)
	unchanged := func(when string) {
		t.Helper()
		after, err := c.dump("")
		must(t, err)
		if !sameTree(after, before) {
			t.Errorf("%s:%s", when, difference(after, before))
		}
		if now := d.free(t); now+1<<20 < free {
			t.Errorf("%s: %d bytes are free, %d were before", when, now, free)
		}
	}
	for _, name := range []string{"big", "link", "big"} {
		if err := c.overwrite(name, "x"); err != unix.ENOSPC {
			t.Errorf("copy-up of %s: %v", name, err)
		}
		unchanged("after the copy-up of " + name)
	}
	// Its metadata finds room, its contents do not.
	must(t, c.chmod("big", 0o600))
	before, err = c.dump("")
	must(t, err)
	if err := c.overwrite("link", "x"); err != unix.ENOSPC {
		t.Errorf("copy-up of contents: %v", err)
	}
	unchanged("after the copy-up of contents")
	must(t, c.overwrite("small", "SMALL"))
	if data, err := c.read("small"); err != nil || string(data) != "SMALL" {
		t.Errorf("small is %q (%v)", data, err)
	}
	must(t, c.truncate("big", 0))
	must(t, fs.Close())
	must(t, unix.Unmount(d.dir, 0))
}

// TestPowerLoss cuts the power at some moments of a workload: what was fsynced is there, and what was not is old or new.
func TestPowerLoss(t *testing.T) {
	points := 2
	if testenv.Soak() {
		points = 40
	}
	for i := range points {
		t.Run(fmt.Sprint(i), func(t *testing.T) { losePower(t, i) })
	}
}

func losePower(t *testing.T, point int) {
	d := newDisk(t, 64<<20)
	lower := t.TempDir()
	const files = 45
	old := func(i int) string { return fmt.Sprintf("old %d", i) }
	name := func(i int) string { return fmt.Sprintf("d%d/f%d", i%3, i) }
	for i := range files {
		path := filepath.Join(lower, name(i))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(old(i)), 0o644))
	}
	fs, c := openUnion(t, lower, d.dir)
	must(t, fs.Sync())
	synced := make(map[string]string)
	last := 5 + point*3%(files-5) // a file for each step: power may leave any mixture of two writes to one
	for i := range last {
		n := name(i)
		value := fmt.Sprintf("new %d", i)
		switch i % 4 {
		case 0: // a file of the layer
		case 1: // its attributes first
			must(t, c.chmod(n, 0o600))
		case 2: // a new file in its place
			n = fmt.Sprintf("new%d", i)
			must(t, c.create(n, ""))
		case 3: // a new name in a new folder
			must(t, c.mkdir(fmt.Sprintf("made%d", i)))
			moved := fmt.Sprintf("made%d/f", i)
			must(t, c.rename(n, moved, 0))
			n = moved
		}
		if i%2 == 1 { // written and made durable
			must(t, c.overwrite(n, value))
			must(t, c.fsync(n))
			synced[n] = value
			continue
		}
		must(t, c.overwrite(n, value))
	}
	d.cutPower(t)
	_ = fs.Close()
	d.boot(t)
	fs, c = openUnion(t, lower, d.dir)
	defer func() {
		must(t, fs.Close())
		must(t, unix.Unmount(d.dir, 0))
	}()
	for n, value := range synced {
		if data, err := c.read(n); err != nil || string(data[:min(len(data), len(value))]) != value {
			t.Errorf("%s was fsynced as %q and is %q (%v)", n, value, data, err)
		}
	}
	for i := range files {
		data, err := c.read(name(i))
		if err == unix.ENOENT && i%4 == 3 {
			continue // it was renamed
		}
		if err != nil {
			t.Errorf("%s: %v", name(i), err)
			continue
		}
		if got := string(data); got != old(i) && got[:min(4, len(got))] != "new " {
			t.Errorf("%s is neither the old file nor a new one: %q", name(i), got)
		}
	}
	if _, err := c.dump(""); err != nil {
		t.Errorf("the tree: %v", err)
	}
}
