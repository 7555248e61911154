package index

import (
	"bytes"
	"errors"
	"fmt"
)

// checkBlock says whether every entry of the folder dir's block, which is at off in the file, can be believed: names in bounds,
// valid and ascending, inodes that exist and have the type that the entry says, folders that are in no other place.
func (x *Index) checkBlock(dir Ino, b block, off uint64) error {
	if len(b) < 4 || uint64(len(b)-4)/entrySize < uint64(b.count()) {
		return errors.New("entries cut short")
	}
	var last []byte
	for n := range b.count() {
		e := b[4+uint64(n)*entrySize:]
		at, length := uint64(le.Uint32(e)), uint64(le.Uint16(e[4:]))
		if at+length > uint64(len(b)) {
			return errors.New("name outside the block")
		}
		name := b[at : at+length]
		if !validName(name) {
			return fmt.Errorf("bad name %q", name)
		}
		if n > 0 && bytes.Compare(last, name) >= 0 {
			return fmt.Errorf("name %q is out of order", name)
		}
		last = name
		if err := x.checkEntry(dir, b.entry(n), off+at); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
	}
	return nil
}

func (x *Index) checkEntry(dir Ino, e Entry, nameOff uint64) error {
	if e.Whiteout {
		if e.Ino != 0 || e.Mode != 0 {
			return errors.New("whiteout with an inode")
		}
		return nil
	}
	r, err := x.record(e.Ino)
	if err != nil {
		return err
	}
	if r.mode() != e.Mode {
		return errors.New("mode differs from the inode's")
	}
	if !r.isDir() {
		return nil
	}
	if e.Ino <= dir || Ino(le.Uint32(r[recParent:])) != dir || x.nameOff(r, dir) != nameOff {
		return errors.New("folder is in two places")
	}
	return nil
}

// nameOff is where in the file the name of r is, given that it is in the folder dir.
func (x *Index) nameOff(r record, dir Ino) uint64 {
	parent := headerSize + (int(dir)-1)*recordSize
	return getBlob(x.data[parent+recData:]).off + le.Uint64(r[recNameOff:])
}

func validName[T ~[]byte | ~string](name T) bool {
	if len(name) == 0 || len(name) > maxName || string(name) == "." || string(name) == ".." {
		return false
	}
	for n := range len(name) {
		if name[n] == '/' || name[n] == 0 {
			return false
		}
	}
	return true
}
