package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
)

// A flatKernel is a kernel as it lies in memory, which is what libkrunfw holds.
type flatKernel struct {
	image []byte
	load  uint64 // physical address of its first byte
	entry uint64 // physical address of its 64-bit entry point
}

// pageAlign is the alignment of a loadable segment in the file.
const pageAlign = 0x1000

// writeELF writes k as the smallest ELF file that libkrun, which enters it at the 64-bit entry point, and QEMU, which
// enters it as the PVH note says, both boot: two program headers, the note, and the image.
func writeELF(w io.Writer, k flatKernel) error {
	note, err := pvhNote(k.image)
	if err != nil {
		return err
	}
	size := uint64(len(k.image))
	headerSize := uint64(binary.Size(elf.Header64{}))
	progSize := uint64(binary.Size(elf.Prog64{}))
	noteOffset := headerSize + 2*progSize
	header := elf.Header64{
		Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:      uint16(elf.ET_EXEC),
		Machine:   uint16(elf.EM_X86_64),
		Version:   uint32(elf.EV_CURRENT),
		Entry:     k.entry,
		Phoff:     headerSize,
		Ehsize:    uint16(headerSize),
		Phentsize: uint16(progSize),
		Phnum:     2,
	}
	programs := [2]elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: pageAlign,
			Vaddr: k.load, Paddr: k.load, Filesz: size, Memsz: size, Align: pageAlign},
		{Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: noteOffset,
			Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4},
	}
	var head bytes.Buffer
	for _, part := range []any{header, programs, note} {
		if err := binary.Write(&head, binary.LittleEndian, part); err != nil {
			return err
		}
	}
	head.Write(make([]byte, pageAlign-head.Len()))
	if _, err := w.Write(head.Bytes()); err != nil {
		return err
	}
	_, err = w.Write(k.image)
	return err
}

// pvhNote gives the note with the PVH entry point. The linker put it into the image; flattened, only its bytes tell where.
func pvhNote(image []byte) ([]byte, error) {
	start := binary.LittleEndian.AppendUint32(nil, uint32(len(noteXenName)))
	start = binary.LittleEndian.AppendUint32(start, 8)
	start = binary.LittleEndian.AppendUint32(start, noteXenPHYS32Entry)
	start = append(start, noteXenName...)
	i := bytes.Index(image, start)
	if i < 0 || i+len(start)+8 > len(image) {
		return nil, errors.New("it has no PVH entry note: it was built without CONFIG_PVH")
	}
	return image[i : i+len(start)+8], nil
}
