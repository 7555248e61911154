package fusefs_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// Request numbers (enum fuse_opcode of Linux's include/uapi/linux/fuse.h).
const (
	opLookup       = 1
	opForget       = 2
	opGetattr      = 3
	opSetattr      = 4
	opReadlink     = 5
	opSymlink      = 6
	opMknod        = 8
	opMkdir        = 9
	opUnlink       = 10
	opRmdir        = 11
	opRename       = 12
	opLink         = 13
	opOpen         = 14
	opRead         = 15
	opWrite        = 16
	opStatfs       = 17
	opRelease      = 18
	opFsync        = 20
	opSetxattr     = 21
	opGetxattr     = 22
	opListxattr    = 23
	opRemovexattr  = 24
	opInit         = 26
	opReaddir      = 28
	opFsyncdir     = 30
	opCreate       = 35
	opBatchForget  = 42
	opFallocate    = 43
	opReaddirplus  = 44
	opRename2      = 45
	opLseek        = 46
	opCopyRange    = 47
	opTmpfile      = 51
	opStatx        = 52
	inHeaderSize   = int(unsafe.Sizeof(fuse.InHeader{}))
	fuzzReplyBytes = 16 << 10
)

// request is one raw request: its fixed part, of which the header is filled in, and what follows.
func request[T any](op uint32, node uint64, fixed T, rest ...string) []byte {
	b := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&fixed)), unsafe.Sizeof(fixed)))
	for _, s := range rest {
		b = append(b, s...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], op)
	binary.LittleEndian.PutUint64(b[16:], node)
	return b
}

func named(op uint32, node uint64, names ...string) []byte {
	return request(op, node, fuse.InHeader{}, strings.Join(names, "\x00")+"\x00")
}

// stream joins requests as the fuzzer has them: each after its length, 16 bits.
func stream(requests ...[]byte) []byte {
	var b []byte
	for _, r := range requests {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(r)))
		b = append(b, r...)
	}
	return b
}

func splitStream(b []byte) (requests [][]byte) {
	for len(b) >= 2 && len(requests) < 64 {
		n := min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
		requests = append(requests, b[2:2+n])
		b = b[2+n:]
	}
	return requests
}

// rightRequests are written by hand: the root is node 1, what is looked up first is node 2, what is opened first is 1.
func rightRequests() [][]byte {
	const low, folder, nameless, handle = 2, 3, 2, 1
	const acl = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
	setxattr, aclValue, largeValue := fuse.SetXAttrIn{Size: 5}, fuse.SetXAttrIn{Size: uint32(len(acl))}, fuse.SetXAttrIn{Size: 60_000}
	symlink := named(opSymlink, 1, "link", "/etc/passwd")
	chmod := fuse.SetAttrIn{}
	chmod.Valid, chmod.Mode = fuse.FATTR_MODE, 0o4755
	return [][]byte{
		stream(named(opLookup, 1, "low"), request(opGetattr, low, fuse.GetAttrIn{}), request(opStatx, low, fuse.StatxIn{}), named(opReadlink, low)),
		stream(named(opLookup, 1, "low"), request(opOpen, low, fuse.OpenIn{Flags: unix.O_RDWR}),
			request(opWrite, low, fuse.WriteIn{Fh: handle, Size: 5}, "hello"), request(opFsync, low, fuse.FsyncIn{Fh: handle}),
			request(opRead, low, fuse.ReadIn{Fh: handle, Size: 100}), request(opFallocate, low, fuse.FallocateIn{Fh: handle, Length: 100}),
			request(opLseek, low, fuse.LseekIn{Fh: handle, Whence: unix.SEEK_DATA}),
			request(opCopyRange, low, fuse.CopyFileRangeIn{FhIn: handle, NodeIdOut: low, FhOut: handle, OffOut: 5, Len: 5}),
			request(opRelease, low, fuse.ReleaseIn{Fh: handle})),
		stream(named(opLookup, 1, "low"), named(opLookup, 1, "d"), request(opReaddir, folder, fuse.ReadIn{Size: 1000}),
			request(opReaddirplus, folder, fuse.ReadIn{Size: 1000}), request(opFsyncdir, folder, fuse.FsyncIn{}),
			request(opRename2, 1, fuse.RenameIn{Newdir: folder}, "low\x00new\x00"), request(opRename2, 1, fuse.RenameIn{Newdir: folder}, "d\x00in\x00"),
			request(opLink, 1, fuse.LinkIn{Oldnodeid: low}, "hard\x00"), named(opUnlink, 1, "hard"), named(opRmdir, 1, "d")),
		stream(request(opMkdir, 1, fuse.MkdirIn{Mode: 0o755}, "made\x00"), request(opMknod, 1, fuse.MknodIn{Mode: unix.S_IFCHR | 0o666, Rdev: 0x103}, "dev\x00"),
			symlink, request(opCreate, 1, fuse.CreateIn{Flags: unix.O_RDWR, Mode: 0o644}, "file\x00"),
			request(opTmpfile, 1, fuse.CreateIn{Flags: unix.O_RDWR, Mode: 0o644}, "/\x00"), named(opRmdir, 1, "made")),
		stream(named(opLookup, 1, "low"), request(opSetattr, low, chmod), request(opSetxattr, low, setxattr, "user.x\x00hello"),
			request(opGetxattr, low, fuse.GetXAttrIn{Size: 100}, "user.x\x00"), request(opListxattr, low, fuse.GetXAttrIn{Size: 100}),
			named(opRemovexattr, low, "user.x"), request(opStatfs, 1, fuse.InHeader{})),
		// whiteouts, and what is made over them
		stream(named(opUnlink, 1, "low"), request(opMkdir, 1, fuse.MkdirIn{Mode: 0o2777}, "low\x00"), named(opLookup, 1, "d"),
			named(opUnlink, folder, "f"), named(opRmdir, 1, "d"), request(opReaddir, 1, fuse.ReadIn{Size: 1000}),
			request(opMknod, 1, fuse.MknodIn{Mode: unix.S_IFIFO | 0o600}, "d\x00"), request(opGetattr, folder, fuse.GetAttrIn{}),
			request(opCreate, folder, fuse.CreateIn{Flags: unix.O_WRONLY, Mode: 0o644}, "in-nothing\x00")),
		// a folder of a layer that moves, and files that change places
		stream(named(opLookup, 1, "low"), named(opLookup, 1, "d"), request(opRename2, 1, fuse.RenameIn{Newdir: 1}, "d\x00moved\x00"),
			named(opLookup, folder, "f"), request(opRename2, 1, fuse.RenameIn{Newdir: folder, Flags: unix.RENAME_EXCHANGE}, "low\x00f\x00"),
			request(opRename2, folder, fuse.RenameIn{Newdir: 1, Flags: unix.RENAME_NOREPLACE}, "f\x00moved\x00"),
			request(opRename2, 1, fuse.RenameIn{Newdir: folder}, "moved\x00into-itself\x00"), request(opFsyncdir, folder, fuse.FsyncIn{})),
		// a file without a name, that gets one and loses it
		stream(request(opTmpfile, 1, fuse.CreateIn{Flags: unix.O_RDWR, Mode: 0o644}, "/\x00"),
			request(opWrite, nameless, fuse.WriteIn{Fh: handle, Size: 5}, "hello"), request(opLink, 1, fuse.LinkIn{Oldnodeid: nameless}, "name\x00"),
			named(opUnlink, 1, "name"), request(opRead, nameless, fuse.ReadIn{Fh: handle, Size: 100}),
			request(opFallocate, nameless, fuse.FallocateIn{Fh: handle, Length: 3, Mode: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}),
			request(opSetattr, nameless, chmod), request(opForget, nameless, fuse.ForgetIn{Nlookup: 3})),
		// an ACL, and what inherits it; a capability, and the write that costs it; a value as large as can be
		stream(named(opLookup, 1, "low"), named(opLookup, 1, "d"), request(opSetxattr, folder, aclValue, "system.posix_acl_default\x00", acl),
			request(opMkdir, folder, fuse.MkdirIn{Mode: 0o777}, "inherits\x00"), request(opSetxattr, low, aclValue, "system.posix_acl_access\x00", acl),
			request(opSetattr, low, chmod), request(opSetxattr, low, setxattr, "security.capability\x00hello"),
			request(opOpen, low, fuse.OpenIn{Flags: unix.O_WRONLY | unix.O_TRUNC}), request(opWrite, low, fuse.WriteIn{Fh: handle, Size: 5}, "hello"),
			request(opSetxattr, low, largeValue, "trusted.large\x00", strings.Repeat("v", 60_000)), request(opGetxattr, low, fuse.GetXAttrIn{}, "trusted.large\x00")),
		stream(named(opLookup, 1, "low"), request(opForget, low, fuse.ForgetIn{Nlookup: 1 << 63}),
			request(opBatchForget, 0, struct {
				fuse.InHeader
				Count, Dummy uint32
				Node, N      uint64
			}{Count: 1, Node: low, N: 1}), request(opRename, 1, fuse.LinkIn{Oldnodeid: 1}, "low\x00../x\x00")),
	}
}

// FuzzRequest is a guest that sends what it likes. Whatever it is, the server lives, gives back what it opened, forgets what it knew, and
// nothing outside the upper changes.
func FuzzRequest(f *testing.F) {
	for _, r := range rightRequests() {
		f.Add(r)
	}
	base := f.TempDir()
	outside, lower := filepath.Join(base, "outside"), filepath.Join(base, "lower")
	for _, dir := range []string{outside, lower, filepath.Join(lower, "d")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			f.Fatal(err)
		}
	}
	for _, name := range []string{outside + "/sentinel", lower + "/low", lower + "/d/f"} {
		if err := os.WriteFile(name, []byte("contents"), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	log.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := digest(t, outside) + digest(t, lower)
		dir, err := os.MkdirTemp(base, "run")
		must(t, err)
		defer os.RemoveAll(dir)
		up := &fusefs.Upper{Dir: dir + "/upper", Work: dir + "/work", Limit: 1 << 20}
		must(t, os.Mkdir(up.Dir, 0o755))
		must(t, os.Mkdir(up.Work, 0o755))
		descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
		fsys, err := fusefs.New(fusefs.Config{Layers: []fusefs.Layer{{Dir: lower}}, Upper: up})
		must(t, err)
		c := fsys.Connect(fusefs.ConnectOptions{Guest: true})
		options := c.ServerOptions(false)
		options.Logger = log.New(io.Discard, "", 0)
		options.PanicHandler = func(v any) fuse.Status {
			t.Errorf("panic: %v\n%s", v, debug.Stack())
			return fuse.EIO
		}
		server := fuse.NewProtocolServer(c, options)
		reply := make([]byte, fuzzReplyBytes)
		start := fuse.InitIn{Major: 7, Minor: 40, Flags: ^uint32(0)}
		requests := append([][]byte{request(opInit, 0, start)}, splitStream(b)...)
		for _, r := range requests {
			server.HandleRequest([][]byte{bytes.Clone(r)}, [][]byte{reply})
		}
		c.Close()
		if bytes, inodes := fsys.Remembered(); bytes != 0 || inodes != 0 {
			t.Errorf("%d bytes and %d inodes are remembered for nobody", bytes, inodes)
		}
		must(t, fsys.Close())
		if n := countDescriptors(t); n > descriptors {
			t.Errorf("%d descriptors were open before, %d after: %q", descriptors, n, descriptorTargets())
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines ran before, %d after", goroutines, n)
		}
		if digest(t, outside)+digest(t, lower) != before {
			t.Error("something outside the upper has changed")
		}
	})
}

// FuzzOverriddenFile is an upper file and an upper folder with any override_stat: a folder stays one, a file is never one, and what
// the guest then sets is what the next start finds.
func FuzzOverriddenFile(f *testing.F) {
	for _, value := range []string{
		"0:0:0755", "1000:1000:0644:file", "0:0:0777:symlink", "4294967295:0:07777:char-1-3", "0:0:0:block-4095-1048575", "0:0:040755",
		"0:0:0100644", "0:0:0120777", "::", "-1:0:0755", "0:0:0755:dir", "0:0:0755:pipe-1-1", "99999999999:0:0", "0:0:0755\x00",
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 1000 {
			return
		}
		u := prepareUnion(t)
		tree{"file": "contents", "dir/": ""}.write(t, u.upper)
		for _, name := range []string{"file", "dir"} {
			must(t, unix.Setxattr(filepath.Join(u.upper, name), "user.containers.override_stat", value, 0))
		}
		h := header(1)
		show := func(name string) fuse.EntryOut {
			c := newClient(t, u)
			var out fuse.EntryOut
			if st := c.c.Lookup(nil, &h, name, &out); !st.Ok() || out.NodeId == 0 {
				t.Fatalf("look up %s: %v", name, st)
			}
			set := &fuse.SetAttrIn{}
			set.InHeader, set.Valid, set.Mode, set.Owner.Uid = header(out.NodeId), fuse.FATTR_MODE|fuse.FATTR_UID, 0o4711, 77
			var attr fuse.AttrOut
			if st := c.c.SetAttr(nil, set, &attr); !st.Ok() {
				t.Fatalf("set attributes of %s: %v", name, st)
			}
			if attr.Mode != out.Mode&unix.S_IFMT|0o4711 || attr.Uid != 77 || attr.Gid != out.Gid || attr.Rdev != out.Rdev {
				t.Errorf("%s was %+v and is %+v", name, out.Attr, attr.Attr)
			}
			c.c.Readlink(nil, &fuse.InHeader{NodeId: out.NodeId})
			c.c.Open(nil, &fuse.OpenIn{InHeader: header(out.NodeId)}, &fuse.OpenOut{})
			c.c.Close()
			return out
		}
		for _, name := range []string{"file", "dir"} {
			out := show(name)
			if isDir := out.Mode&unix.S_IFMT == unix.S_IFDIR; isDir != (name == "dir") {
				t.Errorf("%s is of type 0%o", name, out.Mode)
			}
			if again := show(name); again.Mode != out.Mode&unix.S_IFMT|0o4711 || again.Uid != 77 || again.Rdev != out.Rdev {
				t.Errorf("%s was %+v and is %+v after a start", name, out.Attr, again.Attr)
			}
		}
	})
}

// FuzzWhiteout has a lower file of any name, and above it a file that says in one of the forms that it is gone, or says
// nothing. A listing shows what a look-up finds, and a whiteout hides its name and no other.
func FuzzWhiteout(f *testing.F) {
	for _, name := range []string{"a", ".wh.a", ".wh.", ".wh..wh..opq", ".wh..opq", ".wh..wh.a", "a\xff", ".wh..wh.aufs", ".mica-1-1", "...", "\n"} {
		for form := range uint8(5) {
			f.Add(name, form)
		}
	}
	f.Fuzz(func(t *testing.T, name string, form uint8) {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 250 || name == "other" {
			return
		}
		u := prepareUnion(t, tree{"d/other": "x"}, tree{"d/": ""})
		must(t, os.WriteFile(filepath.Join(u.lowers[0], "d", name), nil, 0o644))
		plain := !strings.HasPrefix(name, ".wh.")
		path := filepath.Join(u.lowers[1], "d", name)
		gone := plain
		switch form % 5 {
		case 0:
			must(t, unix.Mknod(path, unix.S_IFCHR, 0))
		case 1:
			must(t, os.WriteFile(filepath.Join(u.lowers[1], "d", ".wh."+name), nil, 0o644))
		case 2:
			must(t, os.WriteFile(path, nil, 0o644))
			must(t, unix.Setxattr(path, "user.overlay.whiteout", []byte("y"), 0))
		case 3:
			must(t, os.WriteFile(path, []byte("x"), 0o644))
			gone = false
		case 4:
			must(t, os.Mkdir(filepath.Join(u.upper, "d"), 0o755))
			must(t, unix.Mknod(filepath.Join(u.upper, "d", name), unix.S_IFCHR, 0))
		}
		c := newClient(t, u)
		d := c.lookup(1, "d")
		h := header(d)
		out := fuse.NewDirEntryList(make([]byte, 4096), 0)
		if st := c.c.ReadDir(nil, &fuse.ReadIn{InHeader: h}, out); !st.Ok() {
			t.Fatal(st)
		}
		entries, err := fuse.ParseDirEntries(out.Bytes())
		must(t, err)
		shown := make(map[string]bool)
		for _, e := range entries {
			shown[e.Name] = true
		}
		for _, n := range []string{name, "other", ".wh." + name, ".wh.other"} {
			var entry fuse.EntryOut
			if st := c.c.Lookup(nil, &h, n, &entry); !st.Ok() {
				t.Fatalf("look up %q: %v", n, st)
			}
			if found := entry.NodeId != 0; found != shown[n] {
				t.Errorf("%q: the listing has it: %v; a look-up: %v", n, shown[n], found)
			}
		}
		if gone && shown[name] {
			t.Errorf("%q is not hidden", name)
		}
		if plain && !shown["other"] {
			t.Error("another name is hidden")
		}
	})
}

func descriptorTargets() (targets []string) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		target, _ := os.Readlink(link)
		targets = append(targets, target)
	}
	return targets
}
