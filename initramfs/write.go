package initramfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/cavaliergopher/cpio"
)

// A File is one entry of an archive. It belongs to root and has no time.
type File struct {
	Path  string      // relative and clean, like "dev/console"
	Mode  fs.FileMode // the type, setuid, setgid and sticky bits and the permissions, as package io/fs has them
	Data  []byte      // of a regular file its contents, of a symbolic link its target
	Major uint32      // of a device
	Minor uint32
}

// Write writes files as a cpio archive in the newc format of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst,
// uncompressed. Its bytes depend on nothing but the set of files: entries are sorted, inodes are numbered from 1, times and owners
// are 0. The kernel drops a file whose folder has not come before it without a word, so a missing one is an error here, as is a path
// given twice.
func Write(w io.Writer, files []File) error {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	var archive bytes.Buffer
	entries := cpio.NewWriter(&archive)
	folders := map[string]bool{".": true}
	for i, f := range files {
		if err := check(f, folders, i > 0 && files[i-1].Path == f.Path); err != nil {
			return fmt.Errorf("write initramfs: %q: %w", f.Path, err)
		}
		if err := add(entries, &archive, f, int64(i+1)); err != nil {
			return fmt.Errorf("write initramfs: %q: %w", f.Path, err)
		}
	}
	if err := entries.Close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	if _, err := w.Write(archive.Bytes()); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// check refuses what the kernel would not unpack. It notes f in folders.
func check(f File, folders map[string]bool, twice bool) error {
	switch {
	case !fs.ValidPath(f.Path) || f.Path == "." || f.Path == trailer:
		return errors.New("not a relative, clean path")
	case twice:
		return errors.New("given twice")
	case !folders[path.Dir(f.Path)]:
		return errors.New("its folder is not in the archive")
	}
	if f.Mode.IsDir() {
		folders[f.Path] = true
	}
	return nil
}

// Offset and size of the two device numbers in a newc header, eight hexadecimal digits each.
const (
	rdevOffset = 78
	rdevSize   = 16
)

// add writes one entry, which starts at the end of archive. The cpio package leaves device numbers out: they are filled in here.
func add(entries *cpio.Writer, archive *bytes.Buffer, f File, inode int64) error {
	mode, err := unixMode(f.Mode)
	if err != nil {
		return err
	}
	header := &cpio.Header{Name: f.Path, Mode: mode, Inode: inode, Links: 1, Size: int64(len(f.Data))}
	if f.Mode.IsDir() {
		header.Links = 2
	}
	if len(f.Data) > 0 && !f.Mode.IsRegular() && f.Mode.Type() != fs.ModeSymlink {
		return fmt.Errorf("%v with contents", f.Mode.Type())
	}
	start := archive.Len()
	if err := entries.WriteHeader(header); err != nil {
		return err
	}
	if f.Mode&fs.ModeDevice != 0 {
		copy(archive.Bytes()[start+rdevOffset:][:rdevSize], fmt.Sprintf("%08X%08X", f.Major, f.Minor))
	}
	if _, err := entries.Write(f.Data); err != nil {
		return err
	}
	return entries.Flush()
}

// unixMode is m as st_mode has it.
func unixMode(m fs.FileMode) (cpio.FileMode, error) {
	mode := cpio.FileMode(m.Perm())
	for _, bit := range []struct {
		fs   fs.FileMode
		unix cpio.FileMode
	}{{fs.ModeSetuid, cpio.ModeSetuid}, {fs.ModeSetgid, cpio.ModeSetgid}, {fs.ModeSticky, cpio.ModeSticky}} {
		if m&bit.fs != 0 {
			mode |= bit.unix
		}
	}
	switch m.Type() {
	case 0:
		return mode | cpio.TypeReg, nil
	case fs.ModeDir:
		return mode | cpio.TypeDir, nil
	case fs.ModeSymlink:
		return mode | cpio.TypeSymlink, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | cpio.TypeChar, nil
	case fs.ModeDevice:
		return mode | cpio.TypeBlock, nil
	case fs.ModeNamedPipe:
		return mode | cpio.TypeFifo, nil
	}
	return 0, fmt.Errorf("type %v has no place in an initramfs", m.Type())
}
