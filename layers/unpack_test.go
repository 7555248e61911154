package layers_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/micavm/mica/layers"
	"github.com/micavm/mica/layers/index"
)

func TestTarShapes(t *testing.T) {
	special := func(name string, flag byte, major, minor int64) entry {
		return entry{tar.Header{Name: name, Typeflag: flag, Mode: 0o600, Devmajor: major, Devminor: minor}, ""}
	}
	for name, test := range map[string]struct {
		entries []entry
		want    []string
	}{
		"files and folders": {
			[]entry{dir("./"), dir("etc/"), file("etc/a", "A"), file("no/parent", "")},
			[]string{"etc 40755", `etc/a 100644 "A"`, "no 40755", `no/parent 100644 ""`},
		},
		"what only the index has": {
			[]entry{symlink("s", "/etc/shadow"), special("p", tar.TypeFifo, 0, 0), special("c", tar.TypeChar, 5, 1), special("b", tar.TypeBlock, 259, 70000)},
			[]string{"b 60600 259:70000", "c 20600 5:1", "p 10600", "s 120777 -> /etc/shadow"},
		},
		"modes": {
			[]entry{
				{tar.Header{Name: "suid", Typeflag: tar.TypeReg, Mode: 0o4755}, ""},
				{tar.Header{Name: "none", Typeflag: tar.TypeReg, Mode: 0}, ""},
				{tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777}, ""},
				{tar.Header{Name: "shut", Typeflag: tar.TypeDir, Mode: 0}, ""},
				file("shut/in", "x"),
			},
			[]string{`none 100000 ""`, "shut 40000", `shut/in 100644 "x"`, `suid 104755 ""`, "tmp 41777"},
		},
		"hard links": {
			[]entry{file("a", "A"), hardlink("b", "a"), hardlink("d/c", "/b"), symlink("s", "a"), hardlink("s2", "s"), hardlink("a", "a")},
			[]string{`a 100644 "A" 3 links`, `b 100644 "A" 3 links`, "d 40755", `d/c 100644 "A" 3 links`, "s 120777 -> a 2 links", "s2 120777 -> a 2 links"},
		},
		"a hard-linked name written anew": {
			[]entry{file("a", "old"), hardlink("b", "a"), file("a", "new!")},
			[]string{`a 100644 "new!"`, `b 100644 "old"`},
		},
		"the later entry wins": {
			[]entry{file("f", "1"), file("f", "22"), file("x/y", ""), file("x", "file"), file("z", ""), dir("z"), file("z/in", "")},
			[]string{`f 100644 "22"`, `x 100644 "file"`, "z 40755 opaque", `z/in 100644 ""`},
		},
		"links in the place of files": {
			[]entry{file("f", "1"), symlink("f", "t"), file("d/f", ""), symlink("d", "t"), symlink("s", "t"), file("s", "now a file")},
			[]string{"d 120777 -> t", "f 120777 -> t", `s 100644 "now a file"`},
		},
		"whiteouts": {
			[]entry{file("a/.wh.gone", ""), file(".wh.top", ""), file("o/.wh..wh..opq", ""), file("o/new", "n"), file("w/.wh..opq", "")},
			[]string{"a 40755", "a/gone whiteout", "o 40755 opaque", `o/new 100644 "n"`, "top whiteout", "w 40755", "w/.opq whiteout"},
		},
		"whiteouts of what the layer has": {
			[]entry{file("d/f", "f"), file(".wh.d", ""), file("d/.wh.f", "")},
			[]string{"d 40755 opaque", `d/f 100644 "f"`},
		},
		"whiteouts in a folder that is none any more": {
			[]entry{file("d", "f"), file("d/.wh.x", ""), dir("e"), symlink("l", "e"), file("l/.wh.x", ""), file("l/.wh..wh..opq", ""), file("m/.wh.x", ""), symlink("m", "e")},
			[]string{`d 100644 "f"`, "e 40755", "l 120777 -> e", "m 120777 -> e"},
		},
		"aufs's own names": {
			[]entry{file(".wh..wh.plnk/12.34", ""), file(".wh..wh.aufs", ""), file("f", "")},
			[]string{`f 100644 ""`},
		},
		"a global header": {
			[]entry{{tar.Header{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}, file("f", "")},
			[]string{`f 100644 ""`},
		},
		"no way out": {
			[]entry{file("../../up", "u"), file("/abs", "a"), symlink("out", "/"), file("out/in", "i"), symlink("far", "../../../../tmp"), file("far/f", "f"), hardlink("h", "../../up")},
			[]string{`abs 100644 "a"`, "far 120777 -> ../../../../tmp", `h 100644 "u" 2 links`, `in 100644 "i"`, "out 120777 -> /", "tmp 40755", `tmp/f 100644 "f"`, `up 100644 "u" 2 links`},
		},
		"odd names": {
			[]entry{file("\xff\xfe", "x"), file(strings.Repeat("n", 255), ""), file("new\nline", ""), file(strings.Repeat("deep/", 100)+"f", "")},
			append(append([]string{}, deep(100)...), "new\nline 100644 \"\"", strings.Repeat("n", 255)+" 100644 \"\"", "\xff\xfe 100644 \"x\""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := pullTar(t, tarOf(t, test.entries...))
			must(t, err)
			if got := listing(t, l); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			checkFolder(t, l.Dir)
		})
	}
}

func deep(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, strings.Repeat("deep/", i)+"deep 40755")
	}
	return append(lines, strings.Repeat("deep/", n)+"f 100644 \"\"")
}

func TestTarsThatAreRefused(t *testing.T) {
	for want, entries := range map[string][]entry{
		"add h: hard link to gone, which is not in this layer":                              {hardlink("h", "gone")},
		"add h: hard link to the folder d":                                                  {dir("d"), hardlink("h", "d")},
		"add f/x: f: not a directory":                                                       {file("f", ""), file("f/x", "")},
		"resolve l/x: too many levels of symbolic links":                                    {symlink("l", "l"), file("l/x", "")},
		"add /: the root of a layer is a folder":                                            {{tar.Header{Name: "./", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, ""}},
		`.wh.: a whiteout of nothing`:                                                       {file(".wh.", "")},
		`d/.wh...: a whiteout of nothing`:                                                   {file("d/.wh...", "")},
		"f: 4294967296 is no owner and no device number":                                    {{tar.Header{Name: "f", Typeflag: tar.TypeReg, Uid: 1 << 32}, ""}},
		`f: unknown type 'V' of tar entry`:                                                  {{tar.Header{Name: "f", Typeflag: 'V'}, ""}},
		`add ` + strings.Repeat("n", 256) + `: bad name "` + strings.Repeat("n", 256) + `"`: {file(strings.Repeat("n", 256), "")},
	} {
		_, err := pullTar(t, tarOf(t, entries...))
		if !errors.Is(err, layers.ErrCorrupt) {
			t.Errorf("want %q, got %v", want, err)
			continue
		}
		if _, got, _ := strings.Cut(err.Error(), ": corrupt: "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	mtime := time.Unix(-12345, 678901234)
	l, err := pullTar(t, tarOf(t, entry{tar.Header{
		Name: "f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 4294967294, Gid: 100000, ModTime: mtime, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x02", "SCHILY.xattr.user.x": "", "SCHILY.xattr.trusted.overlay.opaque": "y"},
	}, ""}))
	must(t, err)
	x, err := index.Open(l.Index)
	must(t, err)
	defer x.Close()
	e, err := x.Lookup(index.Root, "f")
	must(t, err)
	got, err := x.Attr(e.Ino)
	must(t, err)
	want := index.Attr{Mode: 0o100640, UID: 4294967294, GID: 100000, Nlink: 1, Sec: mtime.Unix(), Nsec: 678901234, HasXattrs: true}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	xattrs, err := x.Xattrs(e.Ino)
	must(t, err)
	if want := []index.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x02")}, {Name: "trusted.overlay.opaque", Value: []byte("y")}, {Name: "user.x", Value: []byte{}}}; !reflect.DeepEqual(xattrs, want) {
		t.Errorf("extended attributes %q, want %q", xattrs, want)
	}
}

func TestSparseFiles(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Fatal("no tar: run tests/setup.sh")
	}
	for _, format := range []string{"gnu", "pax"} {
		t.Run(format, func(t *testing.T) {
			from := t.TempDir()
			f, err := os.Create(filepath.Join(from, "f"))
			must(t, err)
			_, err = f.WriteAt([]byte("end"), 64<<20)
			must(t, err)
			must(t, f.Close())
			data, err := exec.Command("tar", "-C", from, "--format="+format, "-Scf", "-", "f").Output()
			must(t, err)
			l, err := pullTar(t, data)
			must(t, err)
			got, err := os.Open(filepath.Join(l.Dir, "f"))
			must(t, err)
			defer got.Close()
			info, err := got.Stat()
			must(t, err)
			if blocks := info.Sys().(*syscall.Stat_t).Blocks; info.Size() != 64<<20+3 || blocks > 2048 {
				t.Errorf("%d bytes in %d blocks", info.Size(), blocks)
			}
			end := make([]byte, 3)
			if _, err := got.ReadAt(end, 64<<20); err != nil || string(end) != "end" {
				t.Errorf("ends with %q, %v", end, err)
			}
		})
	}
}

// FuzzUnpack unpacks any bytes as a layer: nothing appears outside its folder, and what is complete can be read.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, file("../x", "1"), symlink("s", "/"), file("s/y", "2"), hardlink("h", "../x")))
	f.Add(tarOf(f, dir("d/"), symlink("d/up", "../.."), file("d/up/f", ""), file("d", ""), file(".wh.d", ""), file("d2/.wh..wh..opq", "")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) || bytes.HasPrefix(data, []byte{0x28, 0xb5}) || len(data) > 64<<10 {
			return // a compressed layer has another diff ID than rawLayer says
		}
		outside := t.TempDir()
		l, err := layers.UnpackForTest(t.Context(), openStoreIn(t, filepath.Join(outside, "store")), data)
		if err == nil {
			listing(t, l)
			checkFolder(t, l.Dir)
		}
		names, readErr := os.ReadDir(outside)
		must(t, readErr)
		if len(names) != 1 {
			t.Errorf("unpacked outside the layer: %v", names)
		}
	})
}
