package index

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// An Ino numbers an inode of one layer, from Root up without gaps.
type Ino uint32

// Root is the layer's root folder.
const Root Ino = 1

// An Attr is what an inode is, as the layer's tar had it. Mode has the S_IF* bits. Size is that of a file's contents or
// of a link's target. Implied folders are those that the tar did not list but needed: what a lower layer says of them holds.
type Attr struct {
	Mode, UID, GID, Major, Minor, Nlink uint32
	Size                                uint64
	Sec                                 int64
	Nsec                                uint32
	Opaque, HasXattrs, Implied          bool
}

// An Entry is one name in a folder. Of a whiteout, only the name means something: Ino and Mode are 0.
// Of a file's mode, the S_IF* bits and the permissions are there.
type Entry struct {
	Name     string
	Ino      Ino
	Mode     uint32
	Whiteout bool
}

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// An Index is one open index file. Its methods may be called from any goroutine.
type Index struct {
	data   []byte
	layer  string
	inodes uint32
	// checked has a bit for each inode: a folder's block is read and believed once. It is the only memory of an open index,
	// and the kernel gives its pages on first use.
	checked []atomic.Uint32
}

// Open maps the index file at path and checks its header and its size. The error wraps fs.ErrNotExist when there is none, and
// ErrCorrupt when it is not an index. The file must not be changed while it is open: indexes are published by rename.
func Open(path string) (*Index, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open layer index: %w", err)
	}
	x, err := parse(data)
	if err != nil {
		_ = syscall.Munmap(data)
		return nil, fmt.Errorf("open layer index %s: %w", path, err)
	}
	return x, nil
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < headerSize || info.Size() != int64(int(info.Size())) {
		return nil, fmt.Errorf("%s: %w: too short for a header", path, ErrCorrupt)
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "mmap", Path: path, Err: err}
	}
	return data, nil
}

// parse checks the header of data.
func parse(data []byte) (*Index, error) {
	if len(data) < headerSize || string(data[headMagic:headMagic+len(magic)]) != magic {
		return nil, fmt.Errorf("%w: not an index", ErrCorrupt)
	}
	if v := le.Uint32(data[headVersion:]); v != version {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrCorrupt, v, version)
	}
	head := bytes.Clone(data[:headerSize])
	le.PutUint32(head[headChecksum:], 0)
	if checksum(head) != le.Uint32(data[headChecksum:]) {
		return nil, fmt.Errorf("%w: header checksum differs", ErrCorrupt)
	}
	if size := le.Uint64(head[headSize:]); size != uint64(len(data)) {
		return nil, fmt.Errorf("%w: has %d bytes of %d", ErrCorrupt, len(data), size)
	}
	inodes, layerLen := le.Uint32(head[headInodes:]), le.Uint32(head[headLayerLen:])
	if inodes == 0 || uint64(inodes) > uint64(len(data)-headerSize)/recordSize || layerLen > maxLayer {
		return nil, fmt.Errorf("%w: %d inodes", ErrCorrupt, inodes)
	}
	x := &Index{
		data:    data,
		layer:   string(head[headLayer : headLayer+layerLen]),
		inodes:  inodes,
		checked: make([]atomic.Uint32, inodes/32+1),
	}
	if root, err := x.record(Root); err != nil {
		return nil, err
	} else if !root.isDir() {
		return nil, fmt.Errorf("%w: the root is not a folder", ErrCorrupt)
	}
	return x, nil
}

// Close unmaps the file. No other method may be running or be called afterwards, and no Name that Entries gave may be
// used: those are in the mapping.
func (x *Index) Close() error {
	data := x.data
	x.data, x.inodes = nil, 0
	if data == nil {
		return nil
	}
	return syscall.Munmap(data)
}

// Layer is the diff ID of the layer that the index describes.
func (x *Index) Layer() string { return x.layer }

// Inodes is the number of inodes: they are Root to Ino(Inodes()).
func (x *Index) Inodes() uint32 { return x.inodes }

// Attr is what inode i is.
func (x *Index) Attr(i Ino) (Attr, error) {
	r, err := x.record(i)
	if err != nil {
		return Attr{}, err
	}
	flags := le.Uint16(r[recFlags:])
	return Attr{
		Mode:      r.mode(),
		UID:       le.Uint32(r[recUID:]),
		GID:       le.Uint32(r[recGID:]),
		Major:     le.Uint32(r[recMajor:]),
		Minor:     le.Uint32(r[recMinor:]),
		Nlink:     le.Uint32(r[recNlink:]),
		Size:      le.Uint64(r[recSize:]),
		Sec:       int64(le.Uint64(r[recSec:])),
		Nsec:      le.Uint32(r[recNsec:]),
		Opaque:    flags&flagOpaque != 0,
		Implied:   flags&flagImplied != 0,
		HasXattrs: getBlob(r[recXattrs:]).len != 0,
	}, nil
}

// Lookup finds name in the folder dir without allocating. The error is fs.ErrNotExist when the layer says nothing of it; a
// whiteout is an entry. The entry's Name is name itself.
func (x *Index) Lookup(dir Ino, name string) (Entry, error) {
	b, err := x.block(dir)
	if err != nil {
		return Entry{}, err
	}
	low, high := uint32(0), b.count()
	for low < high {
		mid := low + (high-low)/2
		e := b.entry(mid)
		switch {
		case e.Name < name:
			low = mid + 1
		case e.Name > name:
			high = mid
		default:
			e.Name = name
			return e, nil
		}
	}
	return Entry{}, fs.ErrNotExist
}

// Count is how many entries the folder dir has.
func (x *Index) Count(dir Ino) (uint32, error) {
	b, err := x.block(dir)
	if err != nil {
		return 0, err
	}
	return b.count(), nil
}

// Entry is the nth of the folder dir's entries, from 0, as Entries yields them.
func (x *Index) Entry(dir Ino, nth uint32) (Entry, error) {
	b, err := x.block(dir)
	if err != nil {
		return Entry{}, err
	}
	if nth >= b.count() {
		return Entry{}, fs.ErrNotExist
	}
	return b.entry(nth), nil
}

// Entries yields the folder dir's entries, whiteouts too, sorted bytewise by name. Names are in the mapping: good until Close.
func (x *Index) Entries(dir Ino) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		b, err := x.block(dir)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for n := range b.count() {
			if !yield(b.entry(n), nil) {
				return
			}
		}
	}
}

// Readlink is the target of the symbolic link i.
func (x *Index) Readlink(i Ino) (string, error) {
	r, err := x.record(i)
	if err != nil {
		return "", err
	}
	if r.mode()&typeMask != syscall.S_IFLNK {
		return "", syscall.EINVAL
	}
	target, err := x.blob(getBlob(r[recData:]))
	return string(target), err
}

// Xattrs are the extended attributes of inode i, ascending by name; nil when it has none.
func (x *Index) Xattrs(i Ino) ([]Xattr, error) {
	r, err := x.record(i)
	if err != nil {
		return nil, err
	}
	at := getBlob(r[recXattrs:])
	if at.len == 0 {
		return nil, nil
	}
	b, err := x.blob(at)
	if err != nil {
		return nil, err
	}
	return parseXattrs(b)
}

func parseXattrs(b []byte) ([]Xattr, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: extended attributes cut short", ErrCorrupt)
	}
	count, b := le.Uint32(b), b[4:]
	var xattrs []Xattr
	for range count {
		if len(b) < 6 {
			return nil, fmt.Errorf("%w: extended attributes cut short", ErrCorrupt)
		}
		nameLen, valueLen := int(le.Uint16(b)), uint64(le.Uint32(b[2:]))
		b = b[6:]
		if uint64(nameLen)+valueLen > uint64(len(b)) || nameLen == 0 {
			return nil, fmt.Errorf("%w: extended attributes cut short", ErrCorrupt)
		}
		end := nameLen + int(valueLen)
		xattrs = append(xattrs, Xattr{Name: string(b[:nameLen]), Value: bytes.Clone(b[nameLen:end])})
		b = b[end:]
	}
	return xattrs, nil
}

// Path is where the contents of inode i are, relative to the layer's fs folder: one of its names, the same each time.
// The root's is ".".
func (x *Index) Path(i Ino) (string, error) {
	var names []string
	for length := 0; i != Root; {
		r, err := x.record(i)
		if err != nil {
			return "", err
		}
		parent := Ino(le.Uint32(r[recParent:]))
		if parent >= i || length > maxPath { // each step goes down, so this ends
			return "", fmt.Errorf("%w: inode %d has no path", ErrCorrupt, i)
		}
		name, err := x.firstName(parent, r)
		if err != nil {
			return "", err
		}
		names, length = append(names, name), length+len(name)
		i = parent
	}
	if len(names) == 0 {
		return ".", nil
	}
	slices.Reverse(names)
	return path.Join(names...), nil
}

// Name is the last part of Path.
func (x *Index) Name(i Ino) (string, error) {
	r, err := x.record(i)
	if err != nil {
		return "", err
	}
	if i == Root {
		return ".", nil
	}
	return x.firstName(Ino(le.Uint32(r[recParent:])), r)
}

// firstName is the name in the folder parent that the record r says is its own.
func (x *Index) firstName(parent Ino, r record) (string, error) {
	b, err := x.block(parent)
	if err != nil {
		return "", err
	}
	off, n := le.Uint64(r[recNameOff:]), uint64(le.Uint16(r[recNameLen:]))
	if off > uint64(len(b)) || n > uint64(len(b))-off || !validName(b[off:off+n]) {
		return "", fmt.Errorf("%w: bad name", ErrCorrupt)
	}
	return string(b[off : off+n]), nil
}

// A record is one inode's bytes.
type record []byte

func (r record) mode() uint32 { return le.Uint32(r[recMode:]) }
func (r record) isDir() bool  { return r.mode()&typeMask == syscall.S_IFDIR }

func (x *Index) record(i Ino) (record, error) {
	if i == 0 || uint32(i) > x.inodes {
		return nil, fmt.Errorf("%w: no inode %d", ErrCorrupt, i)
	}
	off := headerSize + (int(i)-1)*recordSize // parse made sure that all are within the file
	r := record(x.data[off : off+recordSize])
	if checksum(r[:recChecksum]) != le.Uint32(r[recChecksum:]) {
		return nil, fmt.Errorf("%w: checksum of inode %d differs", ErrCorrupt, i)
	}
	return r, nil
}

// blob is a checked run of the heap.
func (x *Index) blob(v blob) ([]byte, error) {
	b, err := x.slice(v)
	if err != nil {
		return nil, err
	}
	if checksum(b) != v.crc {
		return nil, fmt.Errorf("%w: checksum of bytes at %d differs", ErrCorrupt, v.off)
	}
	return b, nil
}

func (x *Index) slice(v blob) ([]byte, error) {
	if size := uint64(len(x.data)); v.off > size || uint64(v.len) > size-v.off {
		return nil, fmt.Errorf("%w: %d bytes at %d are outside the file", ErrCorrupt, v.len, v.off)
	}
	return x.data[v.off : v.off+uint64(v.len)], nil
}

// A block is a folder's bytes, checked: entry never fails on one.
type block []byte

func (b block) count() uint32 { return le.Uint32(b) }

func (b block) entry(n uint32) Entry {
	e := b[4+uint64(n)*entrySize:]
	off, length := le.Uint32(e), uint32(le.Uint16(e[4:]))
	name := b[off : off+length]
	return Entry{
		Name:     unsafe.String(unsafe.SliceData(name), len(name)),
		Whiteout: le.Uint16(e[6:])&entryWhiteout != 0,
		Ino:      Ino(le.Uint32(e[8:])),
		Mode:     le.Uint32(e[12:]),
	}
}

// block is the folder dir's block, checked when it is asked for the first time. The error is ENOTDIR when dir is none.
func (x *Index) block(dir Ino) (block, error) {
	r, err := x.record(dir)
	if err != nil {
		return nil, err
	}
	if !r.isDir() {
		return nil, syscall.ENOTDIR
	}
	at := getBlob(r[recData:])
	word, bit := &x.checked[dir/32], uint32(1)<<(dir%32)
	if word.Load()&bit != 0 {
		b, err := x.slice(at)
		return block(b), err
	}
	b, err := x.blob(at)
	if err != nil {
		return nil, err
	}
	if err := x.checkBlock(dir, b, at.off); err != nil {
		return nil, fmt.Errorf("%w: folder %d: %s", ErrCorrupt, dir, err)
	}
	word.Or(bit)
	return block(b), nil
}
