package differential

import (
	"math/rand/v2"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// names are few, so that operations meet. The last one looks like a whiteout's file. None is long: overlayfs answers EXDEV to a
// rename that needs a redirect of more than 256 bytes.
var names = []string{"a", "b", "c", "d", "e", "f", "g", "h", "\xff\xfe\x01", strings.Repeat("n", 40), ".wh.a"}

// layerNames leaves out what means something in a layer.
var layerNames = names[:len(names)-1]

// xattrNames are the namespaces that root has. Those of ACLs have values of their own.
var xattrNames = []string{"user.one", "user.two", "trusted.one", "security.one", "security.capability"}

// maxFiles is about how many files a tree may grow to.
const maxFiles = 60

// A generator makes up layers and operations.
type generator struct {
	*rand.Rand
	known   []string // paths that are probably there
	folders []string // those of folders
	layers  []Layer
	through bool // no set-ID bit is given to what may be open: see allowed.go
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for range 2 + g.IntN(3) {
		g.layers = append(g.layers, g.layer())
	}
	for i := range g.layers {
		g.layers[i] = g.layers[i].withoutHiddenLinks(g.layers[i+1:])
	}
	return g
}

// saw tells the generator what there is.
func (g *generator) saw(t tree, names []string) {
	g.known, g.folders = nil, nil
	for _, name := range names {
		g.known = append(g.known, name)
		if t[name].dir {
			g.folders = append(g.folders, name)
		}
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// one reports whether a chance of one in n comes true.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

// layer makes up a layer: half of its paths are likely to be another layer's too.
func (g *generator) layer() Layer {
	var l Layer
	for range 8 + g.IntN(16) {
		dir := "."
		for _, f := range l {
			if f.Mode&unix.S_IFMT == unix.S_IFDIR && g.one(3) && strings.Count(f.Path, "/") < 3 {
				dir = f.Path
			}
		}
		name := path.Join(dir, pick(g, layerNames...))
		if l.free(name) {
			l = append(l, g.file(l, name))
		}
	}
	return l
}

func (g *generator) file(l Layer, name string) File {
	f := File{Path: name}
	switch g.IntN(20) {
	case 0, 1:
		if hides(g.layers, l, name) {
			return File{Path: name, Whiteout: true}
		}
	case 2, 3:
		for _, other := range l {
			if g.one(3) && other.Mode&unix.S_IFMT != unix.S_IFDIR && !other.Whiteout {
				return File{Path: name, Link: other.Path}
			}
		}
	case 4:
		f.Mode = pick(g, uint32(unix.S_IFIFO), unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK) | g.mode()
		if kind := f.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			f.Rdev = unix.Mkdev(1, 3)
		}
	case 5, 6:
		f.Mode, f.Target = unix.S_IFLNK|0o777, g.target()
	case 7, 8, 9, 10, 11, 12:
		f.Mode, f.Opaque = unix.S_IFDIR|g.mode(), g.one(6)
	}
	if f.Mode == 0 {
		f.Mode, f.Size = unix.S_IFREG|g.mode(), g.size()
		f.Hole = g.one(4)
	}
	f.UID, f.GID = g.owner(), g.owner()
	if kind := f.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
		f.Xattrs = g.xattrs()
	}
	return f
}

func (g *generator) xattrs() map[string]string {
	if !g.one(4) {
		return nil
	}
	xattrs := map[string]string{}
	for range 1 + g.IntN(2) {
		name := pick(g, xattrNames...)
		xattrs[name] = g.xattrValue(name)
	}
	return xattrs
}

// capability is a security.capability of revision 2: cap_net_raw, effective and permitted.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// acls are POSIX ACLs as their xattrs have them: a minimal one, and one with a user and a mask.
var acls = []string{
	"\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x04\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff",
	"\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
		"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff",
}

func (g *generator) xattrValue(name string) string {
	switch name {
	case "security.capability":
		return capability
	case "system.posix_acl_access", "system.posix_acl_default":
		return pick(g, acls...)
	}
	return strings.Repeat(pick(g, "v", "w"), pick(g, 0, 1, 10, 60))
}

func (g *generator) mode() uint32 {
	return pick[uint32](g, 0o644, 0o755, 0o600, 0o777, 0o000, 0o4755, 0o2755, 0o2777, 0o1777, 0o444)
}

func (g *generator) owner() int { return pick(g, 0, 0, 1000, 1001, 65534, 70000) }

func (g *generator) size() int { return pick(g, 0, 1, 100, 4096, 5000, 20000) }

func (g *generator) target() string {
	return pick(g, pick(g, names...), "../"+pick(g, names...), "/"+pick(g, names...), "/"+pick(g, names...)+"/"+pick(g, names...), "nowhere", strings.Repeat("x/", 300))
}

// there is a path that is likely to be there.
func (g *generator) there() string {
	if len(g.known) == 0 || g.one(12) {
		return g.somewhere()
	}
	return pick(g, g.known...)
}

// somewhere is a path in a folder that is likely to be there.
func (g *generator) somewhere() string {
	dir := "."
	if len(g.folders) > 0 {
		dir = pick(g, g.folders...)
	}
	if strings.Count(dir, "/") > 3 {
		dir = "."
	}
	return path.Join(dir, pick(g, names...))
}

func (g *generator) slot() int { return g.IntN(slots) }

// op makes up an operation.
func (g *generator) op() Op {
	op := g.choose()
	// ListXattr shows trusted.* by a capability, which as() does not take away, or in mica by the user.
	if g.one(10) && op.Kind != ListXattr && !(op.Kind == RemoveXattr && op.Name == "system.posix_acl_access") {
		op.As = 1000
	}
	if g.through && (op.Kind == Chmod || op.Kind == Fchmod) {
		op.Mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if g.one(10) && op.Mode&unix.S_ISGID == 0 {
		op.Umask = pick[uint32](g, 0o022, 0o077, 0o777)
	}
	switch op.Kind {
	case Open, Mkdir, Symlink, Mknod:
		g.known = append(g.known, op.Path)
	case Link, Rename, LinkSlot:
		g.known = append(g.known, op.To)
	}
	if op.Kind == Mkdir {
		g.folders = append(g.folders, op.Path)
	}
	return op
}

func (g *generator) choose() Op {
	if len(g.known) > maxFiles && g.one(3) {
		return Op{Kind: pick(g, Unlink, Unlink, Rmdir), Path: g.there()}
	}
	switch g.IntN(100) {
	case 0:
		if g.one(4) {
			return Op{Kind: Remount}
		}
		return Op{Kind: Close, Slot: g.slot()}
	case 1, 2, 3, 4, 5, 6:
		return Op{Kind: Unlink, Path: g.there()}
	case 7, 8, 9:
		return Op{Kind: Rmdir, Path: g.there()}
	case 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
		return g.rename()
	case 21, 22, 23, 24:
		return Op{Kind: Mkdir, Path: g.somewhere(), Mode: g.mode()}
	case 25, 26:
		return Op{Kind: Symlink, Path: g.somewhere(), To: g.target()}
	case 27, 28, 29, 30:
		return Op{Kind: Link, Path: g.there(), To: g.somewhere(), Flags: pick(g, 0, 0, 0, unix.AT_SYMLINK_FOLLOW)}
	case 31, 32:
		return g.mknod()
	case 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46:
		return g.open()
	case 47, 48:
		return Op{Kind: Truncate, Path: g.there(), Len: g.offset()}
	case 49, 50, 51:
		return Op{Kind: Chmod, Path: g.there(), Mode: g.mode()}
	case 52, 53, 54:
		return g.chown()
	case 55, 56, 57:
		return Op{Kind: Utimens, Path: g.there(), Off: g.time(), Len: g.time(), Flags: pick(g, 0, unix.AT_SYMLINK_NOFOLLOW)}
	case 58, 59, 60, 61, 62, 63, 64, 65:
		return g.xattr()
	case 66, 67, 68, 69, 70, 71:
		return Op{Kind: pick(g, ReadDir, Readlink, Stat, Access), Path: g.there(), Mode: uint32(g.IntN(8))}
	case 72, 73:
		return Op{Kind: LinkSlot, Slot: g.slot(), To: g.somewhere()}
	}
	return g.onSlot()
}

func (g *generator) rename() Op {
	flags := pick(g, 0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE)
	if flags == unix.RENAME_EXCHANGE || g.one(4) {
		return Op{Kind: Rename, Path: g.there(), To: g.there(), Flags: flags}
	}
	return Op{Kind: Rename, Path: g.there(), To: g.somewhere(), Flags: flags}
}

func (g *generator) chown() Op {
	op := Op{Kind: Chown, Path: g.there(), UID: g.owner(), GID: g.owner(), Flags: pick(g, 0, unix.AT_SYMLINK_NOFOLLOW)}
	switch g.IntN(4) {
	case 0:
		op.UID = -1
	case 1:
		op.GID = -1
	}
	return op
}

func (g *generator) mknod() Op {
	op := Op{Kind: Mknod, Path: g.somewhere(), Mode: g.mode() | pick[uint32](g, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK)}
	if kind := op.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		op.Rdev = unix.Mkdev(uint32(1+g.IntN(300)), uint32(g.IntN(300)))
	}
	return op
}

func (g *generator) open() Op {
	op := Op{Kind: Open, Slot: g.slot(), Path: g.there(), Mode: g.mode(), Flags: pick(g, unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR)}
	for _, flag := range []int{unix.O_CREAT, unix.O_TRUNC, unix.O_APPEND, unix.O_NOFOLLOW} {
		if g.one(4) {
			op.Flags |= flag
		}
	}
	if g.one(3) {
		op.Path = g.somewhere()
		op.Flags |= unix.O_CREAT | pick(g, 0, 0, unix.O_EXCL)
	}
	if g.one(12) {
		op.Flags = unix.O_RDWR | unix.O_TMPFILE | pick(g, 0, unix.O_EXCL)
		op.Path = "."
		if len(g.folders) > 0 {
			op.Path = pick(g, g.folders...)
		}
	}
	if op.Flags&unix.O_TMPFILE != unix.O_TMPFILE && g.one(20) {
		op.Flags |= unix.O_DIRECTORY
	}
	return op
}

func (g *generator) xattr() Op {
	name := pick(g, append([]string{"system.posix_acl_access", "system.posix_acl_default"}, xattrNames...)...)
	switch g.IntN(6) {
	case 0:
		return Op{Kind: GetXattr, Path: g.there(), Name: name, Len: int64(pick(g, 0, 1, 200))}
	case 1:
		return Op{Kind: ListXattr, Path: g.there()}
	case 2:
		return Op{Kind: RemoveXattr, Path: g.there(), Name: name}
	}
	return Op{Kind: SetXattr, Path: g.there(), Name: name, Value: g.xattrValue(name), Flags: pick(g, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)}
}

func (g *generator) onSlot() Op {
	op := Op{
		Slot: g.slot(), Kind: pick(g, Pread, Pread, Pwrite, Pwrite, Pwrite, Read, Write, Write, Seek, Ftruncate, Fallocate, Fsync, CopyRange, Fstat, Fchmod, Fchown),
		Off: g.offset(), Len: g.offset(), Seed: byte(g.IntN(256)),
	}
	switch op.Kind {
	case Seek:
		op.Flags = pick(g, unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END, unix.SEEK_DATA, unix.SEEK_HOLE)
	case Fallocate:
		op.Flags = pick(g, 0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
			unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
	case CopyRange:
		op.Slot2, op.Off2 = g.slot(), g.offset()
	case Fchmod:
		op.Mode = g.mode()
	case Fchown:
		op.UID, op.GID = g.owner(), g.owner()
	}
	return op
}

func (g *generator) offset() int64 { return int64(pick(g, 0, 1, 100, 4096, 5000, 8192, g.IntN(30000))) }

// time is a second before 2020, or one of utimensat's special times.
func (g *generator) time() int64 {
	return pick(g, now, omit, 0, 1, int64(g.IntN(1_500_000_000)), int64(g.IntN(1_500_000_000)))
}
