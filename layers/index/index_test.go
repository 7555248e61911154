package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/micavm/mica/layers/index"
)

const (
	file    = syscall.S_IFREG
	folder  = syscall.S_IFDIR
	symlink = syscall.S_IFLNK
)

// write builds an index file and opens it.
func write(t testing.TB, b *index.Builder) *index.Index {
	t.Helper()
	x, err := index.Open(writeFile(t, encode(t, b)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func encode(t testing.TB, b *index.Builder) []byte {
	t.Helper()
	var buf bytes.Buffer
	if n, err := b.WriteTo(&buf); err != nil || n != int64(buf.Len()) {
		t.Fatalf("WriteTo = %d, %v; wrote %d", n, err, buf.Len())
	}
	return buf.Bytes()
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// walk finds path from the root, one Lookup a part.
func walk(x *index.Index, path string) (index.Entry, error) {
	e := index.Entry{Ino: index.Root}
	for part := range strings.SplitSeq(path, "/") {
		var err error
		if e, err = x.Lookup(e.Ino, part); err != nil {
			return e, err
		}
	}
	return e, nil
}

// listing shows a tree in lines: what each name is, then what stands out.
func listing(t testing.TB, x *index.Index) []string {
	t.Helper()
	var lines []string
	var list func(dir index.Ino, prefix string)
	list = func(dir index.Ino, prefix string) {
		nth := uint32(0)
		for e, err := range x.Entries(dir) {
			must(t, err)
			if same, err := x.Entry(dir, nth); err != nil || same != e {
				t.Errorf("entry %d of folder %d: %+v (%v), want %+v", nth, dir, same, err, e)
			}
			nth++
			name := prefix + e.Name
			if e.Whiteout {
				lines = append(lines, name+" whiteout")
				continue
			}
			a, err := x.Attr(e.Ino)
			must(t, err)
			line := fmt.Sprintf("%s %o", name, a.Mode)
			if a.Nlink > 1 && a.Mode&syscall.S_IFMT != folder {
				path, err := x.Path(e.Ino)
				must(t, err)
				line += fmt.Sprintf(" link of %s, %d", path, a.Nlink)
			}
			if a.Opaque {
				line += " opaque"
			}
			if a.Implied {
				line += " implied"
			}
			lines = append(lines, line)
			if a.Mode&syscall.S_IFMT == folder {
				list(e.Ino, name+"/")
			}
		}
		if count, err := x.Count(dir); err != nil || count != nth {
			t.Errorf("folder %d has %d entries (%v), want %d", dir, count, err, nth)
		}
		if _, err := x.Entry(dir, nth); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("entry %d of folder %d: %v, want that there is none", nth, dir, err)
		}
	}
	list(index.Root, "")
	return lines
}

func TestAttrSurvives(t *testing.T) {
	b := index.NewBuilder("sha256:abc")
	must(t, b.Add("etc", index.Record{Mode: folder | 0o1755, UID: 1, GID: 4294967294}))
	must(t, b.Add("etc/passwd", index.Record{Mode: file | 0o4640, UID: 4294967295, Size: 1 << 40, Sec: -5, Nsec: 999999999,
		Xattrs: map[string]string{"user.b": "", "security.capability": "\x00\x01"}}))
	must(t, b.Add("etc/link", index.Record{Mode: symlink | 0o777, Target: "../\xff"}))
	must(t, b.Add("dev/sda", index.Record{Mode: syscall.S_IFBLK | 0o660, Major: 259, Minor: 1048575}))
	x := write(t, b)

	if got := x.Layer(); got != "sha256:abc" {
		t.Errorf("Layer = %q", got)
	}
	for path, want := range map[string]index.Attr{
		"etc":        {Mode: folder | 0o1755, UID: 1, GID: 4294967294, Nlink: 2},
		"etc/passwd": {Mode: file | 0o4640, UID: 4294967295, Size: 1 << 40, Sec: -5, Nsec: 999999999, Nlink: 1, HasXattrs: true},
		"etc/link":   {Mode: symlink | 0o777, Size: 4, Nlink: 1},
		"dev":        {Mode: folder | 0o755, Nlink: 2, Implied: true},
		"dev/sda":    {Mode: syscall.S_IFBLK | 0o660, Major: 259, Minor: 1048575, Nlink: 1},
	} {
		e, err := walk(x, path)
		must(t, err)
		got, err := x.Attr(e.Ino)
		must(t, err)
		if got != want || e.Mode != want.Mode || e.Name != filepath.Base(path) {
			t.Errorf("%s: %+v in entry %+v, want %+v", path, got, e, want)
		}
		if p, err := x.Path(e.Ino); err != nil || p != path {
			t.Errorf("Path of %s = %q, %v", path, p, err)
		}
		if name, err := x.Name(e.Ino); err != nil || name != e.Name {
			t.Errorf("Name of %s = %q, %v", path, name, err)
		}
	}
	e, _ := walk(x, "etc/link")
	if target, err := x.Readlink(e.Ino); err != nil || target != "../\xff" {
		t.Errorf("Readlink = %q, %v", target, err)
	}
	e, _ = walk(x, "etc/passwd")
	xattrs, err := x.Xattrs(e.Ino)
	if want := []index.Xattr{{"security.capability", []byte{0, 1}}, {"user.b", []byte{}}}; err != nil || !reflect.DeepEqual(xattrs, want) {
		t.Errorf("Xattrs = %q, %v", xattrs, err)
	}
	if _, err := x.Readlink(e.Ino); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Readlink of a file: %v", err)
	}
	if _, err := x.Lookup(e.Ino, "x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Lookup in a file: %v", err)
	}
	if _, err := walk(x, "etc/passwe"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup of nothing: %v", err)
	}
}

func TestBuilderShapes(t *testing.T) {
	type step = func(b *index.Builder) error
	add := func(name string, mode uint32) step {
		return func(b *index.Builder) error { return b.Add(name, index.Record{Mode: mode}) }
	}
	link := func(name, target string) step {
		return func(b *index.Builder) error { return b.Add(name, index.Record{Hardlink: target}) }
	}
	whiteout := func(name string) step { return func(b *index.Builder) error { return b.Whiteout(name) } }
	opaque := func(name string) step { return func(b *index.Builder) error { return b.Opaque(name) } }

	for name, test := range map[string]struct {
		steps []step
		want  []string
	}{
		"parents are implied":               {[]step{add("a/b/c", file|0o644)}, []string{"a 40755 implied", "a/b 40755 implied", "a/b/c 100644"}},
		"a listed folder keeps what it has": {[]step{add("a/b", file), add("a", folder|0o700)}, []string{"a 40700", "a/b 100000"}},
		"the later file wins":               {[]step{add("a", file|0o600), add("a", file|0o644)}, []string{"a 100644"}},
		"a file replaces a folder":          {[]step{add("a/b", file), add("a", file|0o1)}, []string{"a 100001"}},
		"a folder replaces a file":          {[]step{add("a", file), add("a", folder), add("a/b", file)}, []string{"a 40000 opaque", "a/b 100000"}},
		"hard links":                        {[]step{add("b", file), link("a", "b"), link("c/d", "a")}, []string{"a 100000 link of a, 3", "b 100000 link of a, 3", "c 40755 implied", "c/d 100000 link of a, 3"}},
		"a name leaves its group":           {[]step{add("a", file), link("b", "a"), link("c", "a"), add("a", file|0o7)}, []string{"a 100007", "b 100000 link of b, 2", "c 100000 link of b, 2"}},
		"a group outlives its folder":       {[]step{add("d/a", file), link("b", "d/a"), add("d", file)}, []string{"b 100000", "d 100000"}},
		"whiteouts":                         {[]step{whiteout("a/x"), whiteout("y")}, []string{"a 40755 implied", "a/x whiteout", "y whiteout"}},
		"a whiteout spares its own layer":   {[]step{add("a/b", file), whiteout("a"), add("f", file), whiteout("f")}, []string{"a 40755 opaque implied", "a/b 100000", "f 100000"}},
		"a folder where one was deleted":    {[]step{whiteout("a"), add("a", folder)}, []string{"a 40000 opaque"}},
		"no whiteout in an opaque folder":   {[]step{whiteout("a/x"), opaque("a"), add("a/y", file)}, []string{"a 40755 opaque implied", "a/y 100000"}},
		"no way out of the root":            {[]step{add("../../a", file), add("/b/../c", file)}, []string{"a 100000", "c 100000"}},
		"sorted bytewise":                   {[]step{add("a.b", file), add("a", folder), add("\xff", file), add("B", file)}, []string{"B 100000", "a 40000", "a.b 100000", "\xff 100000"}},
		"names of 255 bytes":                {[]step{add(strings.Repeat("n", 255), file)}, []string{strings.Repeat("n", 255) + " 100000"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := index.NewBuilder("")
			for _, step := range test.steps {
				must(t, step(b))
			}
			if got := listing(t, write(t, b)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}

	for want, steps := range map[string][]step{
		"add a: hard link to b, which is not in this layer": {link("a", "b")},
		"add b: hard link to the folder a":                  {add("a", folder), link("b", "a")},
		"add a/b: a: not a directory":                       {add("a", file), add("a/b", file)},
		"add /: the root of a layer is a folder":            {add("./", file)},
		"add a: mode 0644 has no file type":                 {add("a", 0o644)},
		"whiteout of /":                                     {whiteout("a/..")},
		`add a\0: bad name "a\x00"`:                         {add("a\x00", file)},
	} {
		b := index.NewBuilder("")
		var err error
		for _, step := range steps {
			err = errors.Join(err, step(b))
		}
		if err == nil || strings.ReplaceAll(err.Error(), "\x00", `\0`) != want {
			t.Errorf("got error %q, want %q", err, want)
		}
	}
}

func TestResolve(t *testing.T) {
	b := index.NewBuilder("")
	for name, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr", "up": "../../../usr", "usr/here": "lib/../..", "loop": "loop", "last": "usr",
	} {
		must(t, b.Add(name, index.Record{Mode: symlink, Target: target}))
	}
	for name, want := range map[string]string{
		"lib/x": "usr/lib/x", "abs/x": "usr/x", "up/lib/x": "usr/lib/x", "usr/here/x": "x", "last": "last", "/": ".",
		"../new/x": "new/x", "lib/../x": "x",
	} {
		if got, err := b.Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	if _, err := b.Resolve("loop/x"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Resolve of a loop: %v", err)
	}
}

func TestSameTreeSameBytes(t *testing.T) {
	names := []string{"z", "a/b", "a/c/d", "m/1", "m/2"}
	forward, backward := index.NewBuilder("d"), index.NewBuilder("d")
	xattrs := map[string]string{"user.1": "1", "user.2": "2", "user.3": "3"}
	for i := range names {
		must(t, forward.Add(names[i], index.Record{Mode: file, Xattrs: xattrs}))
		must(t, backward.Add(names[len(names)-1-i], index.Record{Mode: file, Xattrs: xattrs}))
	}
	if !bytes.Equal(encode(t, forward), encode(t, backward)) {
		t.Error("the order of arrival shows in the index")
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	b := index.NewBuilder("")
	for i := range 1000 {
		must(t, b.Add(fmt.Sprintf("dir/%04d", i), index.Record{Mode: file}))
	}
	x := write(t, b)
	dir, err := walk(x, "dir")
	must(t, err)
	allocs := testing.AllocsPerRun(100, func() {
		e, err := x.Lookup(dir.Ino, "0567")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Attr(e.Ino); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Any byte that is not what was written is noticed by whoever reads it.
func TestDamageIsNoticed(t *testing.T) {
	b := index.NewBuilder("sha256:x")
	must(t, b.Add("a/b", index.Record{Mode: symlink, Target: "t", Xattrs: map[string]string{"user.x": "y"}}))
	must(t, b.Whiteout("a/c"))
	good := encode(t, b)
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		if err := readAll(writeFile(t, bad)); !errors.Is(err, index.ErrCorrupt) {
			t.Errorf("byte %d of %d changed: %v", at, len(good), err)
		}
	}
	for _, size := range []int{0, 1, 255, 256, len(good) - 1} {
		if err := readAll(writeFile(t, good[:size])); !errors.Is(err, index.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
	if err := readAll(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// readAll reads everything that the index file says.
func readAll(path string) error {
	x, err := index.Open(path)
	if err != nil {
		return err
	}
	defer x.Close()
	for i := index.Root; uint32(i) <= x.Inodes(); i++ {
		a, err := x.Attr(i)
		if err != nil {
			return err
		}
		if _, err := x.Xattrs(i); err != nil {
			return err
		}
		if _, err := x.Path(i); err != nil {
			return err
		}
		if _, err := x.Readlink(i); err != nil && !errors.Is(err, syscall.EINVAL) {
			return err
		}
		if a.Mode&syscall.S_IFMT != folder {
			continue
		}
		for e, err := range x.Entries(i) {
			if err != nil {
				return err
			}
			if _, err := x.Lookup(i, e.Name); err != nil {
				return fmt.Errorf("entry %q: %w", e.Name, err)
			}
		}
	}
	return nil
}

func BenchmarkLookup(b *testing.B) {
	builder := index.NewBuilder("")
	for i := range 100_000 {
		must(b, builder.Add(fmt.Sprintf("%06d", i), index.Record{Mode: file}))
	}
	x := write(b, builder)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Lookup(index.Root, "077777"); err != nil {
			b.Fatal(err)
		}
	}
}
