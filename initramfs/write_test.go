package initramfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sample() []File {
	return []File{
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "dev-null", Data: []byte("sorts between dev and what is in it")},
		{Path: "init", Mode: fs.ModeSetuid | 0o755, Data: []byte("#!/bin/sh\n")},
		{Path: "link", Mode: fs.ModeSymlink | 0o777, Data: []byte("init")},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// An entry is what a newc header says, read without the package that wrote it.
type entry struct {
	name, data                                                    string
	inode, mode, uid, gid, nlink, mtime, major, minor, rmaj, rmin uint64
}

func parse(t *testing.T, archive []byte) (entries []entry) {
	t.Helper()
	aligned := func(n int) int { return (n + 3) &^ 3 }
	for at := 0; ; {
		if string(archive[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		var f [13]uint64
		for i := range f {
			var err error
			if f[i], err = strconv.ParseUint(string(archive[at+6+8*i:][:8]), 16, 32); err != nil {
				t.Fatal(err)
			}
		}
		size, nameSize := int(f[6]), int(f[11])
		data := aligned(at + 110 + nameSize)
		e := entry{
			name: string(archive[at+110:][:nameSize-1]), data: string(archive[data:][:size]),
			inode: f[0], mode: f[1], uid: f[2], gid: f[3], nlink: f[4], mtime: f[5], major: f[7], minor: f[8], rmaj: f[9], rmin: f[10],
		}
		at = aligned(data + size)
		if e.name == trailer {
			if at != len(archive) {
				t.Errorf("%d bytes after the trailer", len(archive)-at)
			}
			return entries
		}
		entries = append(entries, e)
	}
}

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, sample()); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{name: "dev", inode: 1, mode: 0o040755, nlink: 2},
		{name: "dev-null", inode: 2, mode: 0o100000, nlink: 1, data: "sorts between dev and what is in it"},
		{name: "dev/console", inode: 3, mode: 0o020600, nlink: 1, rmaj: 5, rmin: 1},
		{name: "init", inode: 4, mode: 0o104755, nlink: 1, data: "#!/bin/sh\n"},
		{name: "link", inode: 5, mode: 0o120777, nlink: 1, data: "init"},
		{name: "tmp", inode: 6, mode: 0o041777, nlink: 2},
	}
	if got := parse(t, b.Bytes()); !slices.Equal(got, want) {
		t.Errorf("entries are\n%+v\nwant\n%+v", got, want)
	}
}

// TestSameBytes writes the same files in other orders, with another umask, time zone and locale.
func TestSameBytes(t *testing.T) {
	const golden = "f8ff29c612918ac3bfb6ac92a2037897b8bfcad65ac751e43f91570ad8e1a641"
	old := syscall.Umask(0o777)
	defer syscall.Umask(old)
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.FixedZone("", 5*60*60)
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	for seed := range int64(4) {
		files := sample()
		rand.New(rand.NewSource(seed)).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		before := fmt.Sprint(files)
		var b bytes.Buffer
		if err := Write(&b, files); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b.Bytes())); got != golden {
			t.Errorf("digest %s, want %s", got, golden)
		}
		if fmt.Sprint(files) != before {
			t.Error("Write changed what it was given")
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for want, files := range map[string][]File{
		`"a": given twice`:                         {{Path: "a"}, {Path: "a", Mode: 0o644}},
		`"a/b": its folder is not in the archive`:  {{Path: "a/b"}},
		`"f/b": its folder is not in the archive`:  {{Path: "f"}, {Path: "f/b"}},
		`"/a": not a relative, clean path`:         {{Path: "/a"}},
		`"../a": not a relative, clean path`:       {{Path: "../a"}},
		`"": not a relative, clean path`:           {{}},
		`".": not a relative, clean path`:          {{Path: ".", Mode: fs.ModeDir}},
		`"TRAILER!!!": not a relative, clean path`: {{Path: "TRAILER!!!"}},
		`"s": type S--------- has no place`:        {{Path: "s", Mode: fs.ModeSocket}},
		`"d": d--------- with contents`:            {{Path: "d", Mode: fs.ModeDir, Data: []byte("x")}},
	} {
		var b bytes.Buffer
		err := Write(&b, files)
		if err == nil || !strings.HasPrefix(err.Error(), "write initramfs: "+want) {
			t.Errorf("error %v, want %s", err, want)
		}
		if b.Len() > 0 {
			t.Errorf("%s: %d bytes were written", want, b.Len())
		}
	}
}
