package fusefs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// second mounts the union once more.
func (u *union) second() (dir string) {
	u.t.Helper()
	dir = filepath.Join(filepath.Dir(u.dir), "second")
	must(u.t, os.Mkdir(dir, 0o755))
	m, err := fusefs.Mount(u.fs, dir, u.options)
	must(u.t, err)
	u.t.Cleanup(func() { must(u.t, m.Unmount()) })
	return dir
}

func indexedUnion(t *testing.T, records ...record) *union {
	t.Helper()
	u := prepareIndexed(t, records)
	u.remount()
	return u
}

func prepareIndexed(t *testing.T, records []record) *union {
	t.Helper()
	u := prepareUnion(t)
	u.config.Layers = []fusefs.Layer{indexed(t, records)}
	return u
}

// numbered are count files, named by a format of their number.
func numbered(count int, format, contents string) []record {
	var records []record
	for i := range count {
		records = append(records, file(fmt.Sprintf(format, i), contents))
	}
	return records
}

// TestFileThatOneClientHasOnlySeen shows that what a client knows of a file goes with the file, whoever moves and changes it.
func TestFileThatOneClientHasOnlySeen(t *testing.T) {
	u := indexedUnion(t, file("d/a", "of the layer"), file("d/b", "other"), file("d/sub/c", "deep"))
	second := u.second()
	for name, change := range map[string]struct {
		change func() error
		want   string
		links  uint64
	}{
		"d/a": {func() error {
			return errors.Join(os.Rename(u.path("d/a"), u.path("d/moved")), os.WriteFile(u.path("d/moved"), []byte("new"), 0o644))
		}, "new", 1},
		"d/b":     {func() error { return os.Remove(u.path("d/b")) }, "other", 0},
		"d/sub/c": {func() error { return os.Rename(u.path("d/sub"), u.path("elsewhere")) }, "deep", 1},
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			seen, err := unix.Open(filepath.Join(second, name), unix.O_PATH, 0)
			must(t, err)
			defer unix.Close(seen)
			must(t, change.change())
			f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", seen))
			must(t, err)
			defer f.Close()
			got, err := io.ReadAll(f)
			must(t, err)
			var st unix.Statx_t
			must(t, unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_NLINK, &st))
			if string(got) != change.want || uint64(st.Nlink) != change.links {
				t.Errorf("contents %q, %d names; want %q, %d", got, st.Nlink, change.want, change.links)
			}
		})
	}
}

// TestManyUseWhatTheyHaveOnlySeen has clients use one file for the first time at once, each in its own way.
func TestManyUseWhatTheyHaveOnlySeen(t *testing.T) {
	u := prepareIndexed(t, numbered(200, "f%d", "lower"))
	fsys, err := fusefs.New(u.config)
	must(t, err)
	defer fsys.Close() // and its clients
	a, b := client{t, fsys.Connect(fusefs.ConnectOptions{Guest: true})}, client{t, fsys.Connect(fusefs.ConnectOptions{})}
	for i := range 200 {
		name := fmt.Sprintf("f%d", i)
		inA, inB := a.lookup(1, name), b.lookup(1, name)
		var group sync.WaitGroup
		use := func(f func() fuse.Status) {
			group.Go(func() {
				if st := f(); !st.Ok() {
					t.Errorf("%s: %v", name, st)
				}
			})
		}
		setMode := func(c client, node uint64, mode uint32) func() fuse.Status {
			return func() fuse.Status {
				in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: header(node), Valid: fuse.FATTR_MODE, Mode: mode}}
				return c.c.SetAttr(nil, in, &fuse.AttrOut{})
			}
		}
		use(setMode(a, inA, 0o600))
		use(setMode(b, inB, 0o600))
		use(func() fuse.Status { return a.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(inA)}, &fuse.AttrOut{}) })
		use(func() fuse.Status {
			h := header(1)
			return b.c.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: 1}, name, "moved-"+name)
		})
		group.Wait()
		var got [2]fuse.AttrOut
		for i, side := range []struct {
			c    client
			node uint64
		}{{a, inA}, {b, inB}} {
			if st := side.c.c.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(side.node)}, &got[i]); !st.Ok() {
				t.Fatalf("%s: %v", name, st)
			}
		}
		if got[0].Attr != got[1].Attr || got[0].Mode != unix.S_IFREG|0o600 || got[0].Nlink != 1 {
			t.Fatalf("%s: %+v for one client, %+v for the other", name, got[0].Attr, got[1].Attr)
		}
	}
}

// TestReaderGoesOnWhereItWas has a client read a folder in two halves, between which another one has read all of it, and names have gone.
func TestReaderGoesOnWhereItWas(t *testing.T) {
	u := prepareIndexed(t, numbered(1000, "d/%04d", ""))
	c := newClient(t, u)
	d := c.lookup(1, "d")
	names, offset := c.list(d, 0, 16<<10)
	for all, at := c.list(d, 0, 16<<10); len(all) > 0; {
		all, at = c.list(d, at, 16<<10)
	}
	for _, name := range names[:100] {
		if name == "." || name == ".." {
			continue
		}
		h := header(d)
		if st := c.c.Unlink(nil, &h, name); !st.Ok() {
			t.Fatal(st)
		}
	}
	for {
		more, next := c.list(d, offset, 16<<10)
		if len(more) == 0 {
			break
		}
		names, offset = append(names, more...), next
	}
	if slices.Sort(names); len(names) != 1002 || len(slices.Compact(names)) != 1002 {
		t.Errorf("%d names, want 1002, each once", len(names))
	}
}

// list reads entries of a folder from an offset on, and gives the offset after them.
func (c client) list(dir, offset uint64, size int) (names []string, next uint64) {
	c.t.Helper()
	out := fuse.NewDirEntryList(make([]byte, size), offset)
	if st := c.c.ReadDir(nil, &fuse.ReadIn{InHeader: header(dir), Offset: offset}, out); !st.Ok() {
		c.t.Fatal(st)
	}
	entries, err := fuse.ParseDirEntries(out.Bytes())
	must(c.t, err)
	next = offset
	for _, e := range entries {
		names, next = append(names, e.Name), e.Off
	}
	return names, next
}
