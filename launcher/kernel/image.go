package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// An uncompressed kernel holds the text of its own messages, so what it was built with shows in its bytes.
var (
	// init/initramfs.c prints one of the two, and is not compiled without CONFIG_BLK_DEV_INITRD.
	initramfsTells = [][]byte{[]byte("Unpacking initramfs"), []byte("Trying to unpack rootfs image as initramfs")}
	// Monitors announce their devices by this parameter of the kernel's command line; it is compiled under that option only.
	devicesTell  = []byte("virtio_mmio.device")
	virtiofsTell = []byte("virtiofs")
)

// noteXenPHYS32Entry is XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h: the 32-bit physical address at which a PVH
// loader enters the kernel, 4 or 8 bytes.
const noteXenPHYS32Entry = 18

var noteXenName = []byte("Xen\x00")

// inspect says whether image unpacks an initramfs, or in one line why no monitor can boot it.
func inspect(image io.ReaderAt) (initramfs bool, err error) {
	if err := checkFormat(image); err != nil {
		return false, err
	}
	whole := io.NewSectionReader(image, 0, math.MaxInt64)
	found, err := contains(whole, append([][]byte{devicesTell, virtiofsTell}, initramfsTells...))
	if err != nil {
		return false, err
	}
	switch {
	case !found[0]:
		return false, errors.New("was built without CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES, and would find no device")
	case !found[1]:
		return false, errors.New("was built without CONFIG_VIRTIO_FS, and would find no root filesystem")
	}
	return found[2] || found[3], nil
}

func checkFormat(image io.ReaderAt) error {
	if what := compressedFormat(image); what != "" {
		return fmt.Errorf("is a %s; an uncompressed vmlinux is needed", what)
	}
	file, err := elf.NewFile(image)
	if err != nil {
		return errors.New("is not an ELF file; an uncompressed vmlinux is needed")
	}
	if file.Machine != elf.EM_X86_64 || file.Class != elf.ELFCLASS64 {
		return fmt.Errorf("is for %s, not x86-64", file.Machine)
	}
	if isTruncated(image, file) {
		return errors.New("is truncated")
	}
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_NOTE {
			continue
		}
		// A kernel's notes are some hundred bytes; what claims more is not believed.
		notes, err := io.ReadAll(io.LimitReader(segment.Open(), 1<<20))
		if err != nil {
			return fmt.Errorf("read its notes: %w", err)
		}
		if hasPVHNote(notes, file.ByteOrder) {
			return nil
		}
	}
	return errors.New("has no PVH entry note: it was built without CONFIG_PVH")
}

// isTruncated says whether the last byte of some segment is missing.
func isTruncated(image io.ReaderAt, file *elf.File) bool {
	for _, segment := range file.Progs {
		if segment.Filesz == 0 {
			continue
		}
		if end := segment.Off + segment.Filesz; end < segment.Off || end > math.MaxInt64 {
			return true
		} else if n, _ := image.ReadAt(make([]byte, 1), int64(end-1)); n == 0 {
			return true
		}
	}
	return false
}

// compressedFormat names the format of a kernel that is not an ELF file, or "" when it is none of the known ones.
func compressedFormat(image io.ReaderAt) string {
	head := make([]byte, 0x206)
	n, _ := image.ReadAt(head, 0)
	head = head[:n]
	switch {
	// The setup header of the Linux x86 boot protocol, Documentation/arch/x86/boot.rst.
	case len(head) == 0x206 && bytes.Equal(head[0x202:], []byte("HdrS")):
		return "compressed bzImage"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip file"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd file"
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2 file"
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return "xz file"
	}
	return ""
}

// hasPVHNote walks the entries of a PT_NOTE segment: sizes of name and description, type, then both padded to 4 bytes (elf(5)).
func hasPVHNote(notes []byte, order binary.ByteOrder) bool {
	for len(notes) >= 12 {
		nameSize, descSize, kind := order.Uint32(notes), order.Uint32(notes[4:]), order.Uint32(notes[8:])
		name := uint64(nameSize)
		desc := 12 + (name+3)&^3
		next := desc + (uint64(descSize)+3)&^3
		if next > uint64(len(notes)) {
			return false
		}
		if kind == noteXenPHYS32Entry && bytes.Equal(notes[12:12+name], noteXenName) {
			return true
		}
		notes = notes[next:]
	}
	return false
}

// contains says for each of words whether r holds it. It keeps one block in memory.
func contains(r io.Reader, words [][]byte) ([]bool, error) {
	const block = 1 << 20
	overlap := 0
	for _, word := range words {
		overlap = max(overlap, len(word)-1)
	}
	found := make([]bool, len(words))
	buf := make([]byte, overlap+block)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		for i, word := range words {
			found[i] = found[i] || bytes.Contains(buf[:kept+n], word)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		kept = copy(buf, buf[kept+n-overlap:kept+n])
	}
}
