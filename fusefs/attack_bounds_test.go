package fusefs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// limitDescriptors has what is opened from now on believe that the process may have n descriptors.
func limitDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) })
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

const descriptorLimit = 600 // of the process; the union takes half

// storm makes one thing after the other until the answer is no, and returns how many there were.
func storm(t *testing.T, one func(i int) fuse.Status) int {
	t.Helper()
	for i := range 10 * descriptorLimit {
		st := one(i)
		if st == fuse.Status(unix.ENFILE) || st == fuse.Status(unix.EMFILE) {
			if n := countDescriptors(t); n > descriptorLimit {
				t.Errorf("%d descriptors are open, of %d", n, descriptorLimit)
			}
			return i
		}
		if !st.Ok() {
			t.Fatalf("number %d: %v", i, st)
		}
	}
	t.Fatal("there was no end")
	return 0
}

func TestOpenFilesAreBounded(t *testing.T) {
	limitDescriptors(t, descriptorLimit)
	before := countDescriptors(t)
	u, c := attackedUnion(t, tree{"low": "x"})
	c.create(1, "up", 0o644)
	for _, name := range []string{"low", "up"} {
		node := c.lookup(1, name)
		var handles []uint64
		storm(t, func(int) fuse.Status {
			var open fuse.OpenOut
			st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(node)}, &open)
			handles = append(handles, open.Fh)
			return st
		})
		for _, fh := range handles {
			c.c.Release(nil, &fuse.ReleaseIn{Fh: fh})
		}
		if st := c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(node)}, &fuse.AttrOut{}); !st.Ok() {
			t.Errorf("%s: getattr after the storm: %v", name, st)
		}
	}
	storm(t, func(int) fuse.Status {
		return c.c.Tmpfile(nil, &fuse.CreateIn{InHeader: header(1), Flags: unix.O_RDWR, Mode: 0o644}, &fuse.CreateOut{})
	})
	c.c.Close()
	other := newClient(t, u)
	if st := other.c.Open(nil, &fuse.OpenIn{InHeader: header(other.lookup(1, "up"))}, &fuse.OpenOut{}); !st.Ok() {
		t.Errorf("open after the storm: %v", st)
	}
	other.c.Close()
	if after := countDescriptors(t); after > before+40 {
		t.Errorf("%d descriptors were open before, %d after", before, after)
	}
}

// TestRemovedFilesThatAreNotForgottenAreBounded never sends a FORGET.
func TestRemovedFilesThatAreNotForgottenAreBounded(t *testing.T) {
	limitDescriptors(t, descriptorLimit)
	_, c := attackedUnion(t, tree{"low": "x"})
	h := header(1)
	var last fuse.EntryOut
	for i := range 2 * descriptorLimit {
		st := c.c.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: unix.S_IFREG | 0o644}, "f", &last)
		if st.Ok() {
			st = c.c.Unlink(nil, &h, "f")
		}
		if !st.Ok() && st != fuse.Status(unix.ENFILE) {
			t.Fatalf("file %d: %v", i, st)
		}
	}
	if n := countDescriptors(t); n > descriptorLimit {
		t.Errorf("%d descriptors are open, of %d", n, descriptorLimit)
	}
	for id := uint64(2); id <= last.NodeId; id++ {
		c.c.Forget(id, 1)
	}
	c.create(1, "after", 0o644)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryIsBoundedByWhatThereIs(t *testing.T) {
	lower := tree{}
	for i := range 100 {
		lower[fmt.Sprintf("f%d", i)] = "x"
	}
	_, c := attackedUnion(t, lower)
	h := header(1)
	buf := make([]byte, 1<<20)
	round := func(k int) {
		for i := range 100 {
			c.lookup(1, fmt.Sprintf("f%d", i))
			c.c.Lookup(nil, &h, fmt.Sprintf("absent%d-%d", k, i), &fuse.EntryOut{})
			c.c.Forget(uint64(k*1000+i), uint64(i)<<60)
			c.c.Release(nil, &fuse.ReleaseIn{Fh: uint64(k*1000 + i)})
		}
		c.c.OpenDir(nil, &fuse.OpenIn{InHeader: h}, &fuse.OpenOut{})
		c.c.ReadDirPlus(nil, &fuse.ReadIn{InHeader: h}, fuse.NewDirEntryList(buf, 0))
		if st := c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "d", &fuse.EntryOut{}); !st.Ok() {
			t.Fatal(st)
		}
		if st := c.c.Rmdir(nil, &h, "d"); !st.Ok() {
			t.Fatal(st)
		}
	}
	round(0)
	before := heap()
	for k := range 300 {
		round(k + 1)
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
}

// hoards are ways to have the server remember more each time. Each gives a node that is to be forgotten in the end, and is called with the
// one that it gave last; the first is the folder "dir".
var hoards = map[string]func(c client, i int, last uint64) (node uint64, _ fuse.Status){
	"look-ups": func(c client, i int, _ uint64) (uint64, fuse.Status) {
		h := header(1)
		var out fuse.EntryOut
		st := c.c.Lookup(nil, &h, fmt.Sprintf("low%d", i), &out)
		return out.NodeId, st
	},
	"files that are removed": func(c client, _ int, _ uint64) (uint64, fuse.Status) {
		node, st := c.mknod(1, "f")
		if st.Ok() {
			h := header(1)
			st = c.c.Unlink(nil, &h, "f")
		}
		return node, st
	},
	"files without a name": func(c client, _ int, _ uint64) (uint64, fuse.Status) {
		var out fuse.CreateOut
		st := c.c.Tmpfile(nil, &fuse.CreateIn{InHeader: header(1), Flags: unix.O_RDWR, Mode: 0o644}, &out)
		c.c.Release(nil, &fuse.ReleaseIn{InHeader: header(out.NodeId), Fh: out.Fh})
		return out.NodeId, st
	},
	"symbolic links": func(c client, i int, _ uint64) (uint64, fuse.Status) {
		h := header(1)
		var out fuse.EntryOut
		st := c.c.Symlink(nil, &h, "target", fmt.Sprintf("link%d", i), &out)
		return out.NodeId, st
	},
	"names of one file": func(c client, i int, last uint64) (uint64, fuse.Status) {
		if i == 0 {
			return c.mknod(1, "one")
		}
		return last, c.c.Link(nil, &fuse.LinkIn{InHeader: header(1), Oldnodeid: last}, fmt.Sprintf("%0200d", i), &fuse.EntryOut{})
	},
	"folders in folders that are forgotten": func(c client, _ int, last uint64) (uint64, fuse.Status) {
		var out fuse.EntryOut
		st := c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: header(last), Mode: 0o755}, "d", &out)
		if !st.Ok() {
			return last, st
		}
		c.c.Forget(last, 1)
		return out.NodeId, st
	},
	"a listing of files that are forgotten": func(c client, i int, dir uint64) (uint64, fuse.Status) {
		node, st := c.mknod(dir, fmt.Sprintf("%0200d", i))
		if st.Ok() {
			c.c.Forget(node, 1)
			st = c.c.ReadDir(nil, &fuse.ReadIn{InHeader: header(dir)}, fuse.NewDirEntryList(make([]byte, 4096), 0))
		}
		return dir, st
	},
}

// TestWhatIsNotForgottenIsBounded has a guest that sends no FORGET, or too few: it gets ENOMEM in the end, and keeps what it has.
func TestWhatIsNotForgottenIsBounded(t *testing.T) {
	const many = 1000
	lower := tree{}
	for i := range many {
		lower[fmt.Sprintf("low%d", i)] = "x"
	}
	for name, hoard := range hoards {
		t.Run(name, func(t *testing.T) {
			u := prepareUnion(t, lower)
			u.config.Remembered = 64 << 10
			c := newClient(t, u)
			kept := c.openRemoved("contents")
			node, st := c.mkdir(1, "dir")
			nodes := []uint64{node}
			for i := 0; st.Ok(); i++ {
				if i == many {
					t.Fatal("there was no end")
				}
				node, st = hoard(c, i, node)
				nodes = append(nodes, node)
			}
			if st != fuse.Status(unix.ENOMEM) {
				t.Errorf("the end: %v", st)
			}
			if _, st := c.mkdir(1, "refused"); st != fuse.Status(unix.ENOMEM) {
				t.Errorf("mkdir: %v", st)
			}
			if _, err := os.Lstat(filepath.Join(u.upper, "refused")); !os.IsNotExist(err) {
				t.Errorf("what was refused: %v", err)
			}
			if got := kept.read(); got != "contents" {
				t.Errorf("an open file that was removed before: %q", got)
			}
			for _, node := range nodes {
				c.c.Forget(node, ^uint64(0))
			}
			if _, st := c.mkdir(1, "after"); !st.Ok() {
				t.Errorf("mkdir after all is forgotten: %v", st)
			}
		})
	}
}

// TestHostMountIsNotBounded has a client whose kernel forgets when it has to.
func TestHostMountIsNotBounded(t *testing.T) {
	u := prepareUnion(t)
	u.config.Remembered = 16 << 10
	fsys, err := fusefs.New(u.config)
	must(t, err)
	defer func() { must(t, fsys.Close()) }()
	c := client{t, fsys.Connect(fusefs.ConnectOptions{})}
	for i := range 200 {
		c.create(1, fmt.Sprint(i), 0o644)
	}
}

func TestListingIsBounded(t *testing.T) {
	u := prepareUnion(t)
	u.config.Remembered = 16 << 10
	for i := range 300 {
		tree{fmt.Sprint(i): ""}.write(t, u.upper)
	}
	for _, guest := range []bool{true, false} {
		fsys, err := fusefs.New(u.config)
		must(t, err)
		c := fsys.Connect(fusefs.ConnectOptions{Guest: guest})
		out := fuse.NewDirEntryList(make([]byte, 64<<10), 0)
		if st := c.ReadDir(nil, &fuse.ReadIn{InHeader: header(1)}, out); st != fuse.Status(unix.ENOMEM) {
			t.Errorf("readdir, guest %v: %v", guest, st)
		}
		must(t, fsys.Close())
	}
}

func (c client) mkdir(dir uint64, name string) (uint64, fuse.Status) {
	var out fuse.EntryOut
	st := c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: header(dir), Mode: 0o755}, name, &out)
	return out.NodeId, st
}

func (c client) mknod(dir uint64, name string) (uint64, fuse.Status) {
	var out fuse.EntryOut
	st := c.c.Mknod(nil, &fuse.MknodIn{InHeader: header(dir), Mode: unix.S_IFREG | 0o644}, name, &out)
	return out.NodeId, st
}

// An openFile is one that a client has open.
type openFile struct {
	client
	node, handle uint64
}

// openRemoved makes a file with contents, and removes it.
func (c client) openRemoved(contents string) openFile {
	c.t.Helper()
	var out fuse.CreateOut
	in := &fuse.CreateIn{InHeader: header(1), Mode: 0o644, Flags: unix.O_RDWR}
	if st := c.c.Create(nil, in, "removed", &out); !st.Ok() {
		c.t.Fatal(st)
	}
	write := &fuse.WriteIn{InHeader: header(out.NodeId), Fh: out.Fh, Size: uint32(len(contents))}
	if st := second(c.c.Writev(nil, write, [][]byte{[]byte(contents)})); !st.Ok() {
		c.t.Fatal(st)
	}
	h := header(1)
	if st := c.c.Unlink(nil, &h, "removed"); !st.Ok() {
		c.t.Fatal(st)
	}
	return openFile{c, out.NodeId, out.Fh}
}

func (f openFile) read() string {
	f.t.Helper()
	result, st := f.c.Read(nil, &fuse.ReadIn{InHeader: header(f.node), Fh: f.handle, Size: 4096}, make([]byte, 4096))
	if !st.Ok() {
		f.t.Fatal(st)
	}
	defer result.Done()
	got, _ := result.Bytes(make([]byte, 4096))
	return string(got)
}

func TestSizesAndOffsetsThatNoFileHas(t *testing.T) {
	_, c := attackedUnion(t, tree{"f": "x", "d/a": "x", "d/b": "x"})
	f, d := c.lookup(1, "f"), c.lookup(1, "d")
	for _, offset := range []uint64{0, 1, 2, 3, 4, 5, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0) - 1, ^uint64(0)} {
		for _, size := range []int{0, 1, 23, 24, 100, 1 << 24} {
			in := &fuse.ReadIn{InHeader: header(d), Offset: offset, Size: ^uint32(0)}
			if st := c.c.ReadDir(nil, in, fuse.NewDirEntryList(make([]byte, size), offset)); !st.Ok() {
				t.Errorf("readdir of %d bytes at %d: %v", size, offset, st)
			}
			if st := c.c.ReadDirPlus(nil, in, fuse.NewDirEntryList(make([]byte, size), offset)); !st.Ok() {
				t.Errorf("readdirplus of %d bytes at %d: %v", size, offset, st)
			}
		}
	}
	var open fuse.OpenOut
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(f), Flags: unix.O_RDWR}, &open); !st.Ok() {
		t.Fatal(st)
	}
	h := header(f)
	for _, offset := range []uint64{1<<63 - 1, 1 << 63, ^uint64(0)} {
		for name, st := range map[string]fuse.Status{
			"write":     second(c.c.Writev(nil, &fuse.WriteIn{InHeader: h, Fh: open.Fh, Offset: offset}, [][]byte{[]byte("x")})),
			"fallocate": c.c.Fallocate(nil, &fuse.FallocateIn{InHeader: h, Fh: open.Fh, Offset: offset, Length: offset}),
			"copy to": second(c.c.CopyFileRange(nil, &fuse.CopyFileRangeIn{
				InHeader: h, FhIn: open.Fh, NodeIdOut: f, FhOut: open.Fh, OffOut: offset, Len: ^uint64(0),
			})),
			"truncate": c.c.SetAttr(nil, sizeOf(h, offset), &fuse.AttrOut{}),
			"seek":     c.c.Lseek(nil, &fuse.LseekIn{InHeader: h, Fh: open.Fh, Offset: offset, Whence: unix.SEEK_DATA}, &fuse.LseekOut{}),
		} {
			if st.Ok() {
				t.Errorf("%s at %d worked", name, offset)
			}
		}
		result, st := c.c.Read(nil, &fuse.ReadIn{InHeader: h, Fh: open.Fh, Offset: offset, Size: ^uint32(0)}, make([]byte, 1<<20))
		if st.Ok() {
			if b, st := result.Bytes(make([]byte, 1<<20)); st.Ok() && len(b) > 0 {
				t.Errorf("read at %d gave %d bytes", offset, len(b))
			}
			result.Done()
		}
	}
}

func second(_ uint32, st fuse.Status) fuse.Status { return st }

func TestAttributesOfAGigabyte(t *testing.T) {
	_, c := attackedUnion(t, tree{"f": "x"})
	h := header(c.lookup(1, "f"))
	value := make([]byte, 1<<30) // never touched: it costs no memory
	if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h, Size: 1 << 30}, "user.x", value); st != fuse.Status(unix.E2BIG) {
		t.Errorf("set: %v", st)
	}
	if _, st := c.c.GetXAttr(nil, &h, "user.x", value); st != fuse.ENODATA {
		t.Errorf("get: %v", st)
	}
	if n, st := c.c.ListXAttr(nil, &h, value); n != 0 || !st.Ok() {
		t.Errorf("list: %d bytes, %v", n, st)
	}
	// Many that are each allowed come to an end too, or are all there.
	for i := range 200 {
		st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, fmt.Sprintf("user.x%d", i), value[:64<<10])
		if !st.Ok() {
			if st != fuse.Status(unix.ENOSPC) && st != fuse.Status(unix.E2BIG) {
				t.Errorf("attribute %d: %v", i, st)
			}
			return
		}
	}
}

func TestHandlesAndNodesBelongToOneConnection(t *testing.T) {
	u := prepareUnion(t, tree{"f": "secret", "g": "x"})
	fsys, err := fusefs.New(u.config)
	must(t, err)
	defer func() { must(t, fsys.Close()) }()
	a := client{t, fsys.Connect(fusefs.ConnectOptions{})}
	b := client{t, fsys.Connect(fusefs.ConnectOptions{Guest: true})}
	f := a.lookup(1, "f")
	var open fuse.OpenOut
	if st := a.c.Open(nil, &fuse.OpenIn{InHeader: header(f)}, &open); !st.Ok() {
		t.Fatal(st)
	}
	if st := b.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(f)}, &fuse.AttrOut{}); st != fuse.Status(unix.ESTALE) {
		t.Errorf("getattr of another's node: %v", st)
	}
	mine := b.lookup(1, "f")
	if _, st := b.c.Read(nil, &fuse.ReadIn{InHeader: header(mine), Fh: open.Fh}, make([]byte, 10)); st != fuse.EBADF {
		t.Errorf("read by another's handle: %v", st)
	}
	b.c.Release(nil, &fuse.ReleaseIn{InHeader: header(mine), Fh: open.Fh})
	b.c.Forget(mine, ^uint64(0))
	b.c.Close()
	result, st := a.c.Read(nil, &fuse.ReadIn{InHeader: header(f), Fh: open.Fh}, make([]byte, 10))
	if !st.Ok() {
		t.Fatalf("read after another's release: %v", st)
	}
	if got, _ := result.Bytes(nil); string(got) != "secret" {
		t.Errorf("read after another's release: %q", got)
	}
	if st := b.c.Open(nil, &fuse.OpenIn{InHeader: header(1)}, &fuse.OpenOut{}); st.Ok() {
		t.Error("a closed connection opened something")
	}
}
