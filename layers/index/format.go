package index

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"syscall"
)

// The file, little-endian, every checksum a CRC-32C:
//
//	header   256 bytes
//	inodes   one record of 96 bytes each; inode i is record i-1. A folder's number is lower than its children's, so that
//	         no chain of parents and no walk of folders can be a loop
//	heap     folder blocks, link targets, extended attributes; a record says where, how long, and the checksum
//
// A folder block:
//
//	count    uint32
//	entries  count times 16 bytes: name's offset in the block uint32, its length uint16, flags uint16, inode uint32, mode uint32
//	names    strictly ascending, bytewise
//
// Extended attributes: count uint32, then for each, ascending by name: name's length uint16, value's length uint32, name, value.
const (
	magic   = "mica.idx"
	version = 1

	headerSize = 256
	recordSize = 96
	entrySize  = 16
	maxLayer   = 128 // bytes of a diff ID
	maxName    = 255
	maxPath    = 64 << 10 // bytes of a path that Path gives
)

// Offsets in the header.
const (
	headMagic    = 0
	headVersion  = 8  // uint32
	headChecksum = 12 // uint32, of the header with this field zero
	headSize     = 16 // uint64, of the whole file
	headInodes   = 24 // uint32
	headLayerLen = 28 // uint32
	headLayer    = 32
)

// Offsets in an inode record.
const (
	recMode     = 0
	recUID      = 4
	recGID      = 8
	recMajor    = 12
	recMinor    = 16
	recNlink    = 20
	recSize     = 24 // uint64
	recSec      = 32 // int64
	recNsec     = 40
	recFlags    = 44 // uint16
	recNameLen  = 46 // uint16
	recData     = 48 // blob: a folder's block or a symbolic link's target
	recXattrs   = 64 // blob
	recNameOff  = 80 // uint64: the first name, within the block of recParent
	recParent   = 88
	recChecksum = 92
)

// Flags of an inode record.
const (
	flagOpaque = 1 << iota
	flagImplied
)

// Flags of a folder's entry.
const entryWhiteout = 1

const typeMask = syscall.S_IFMT

// ErrCorrupt is wrapped by every error that says that an index is not one that a [Builder] wrote.
var ErrCorrupt = errors.New("corrupt layer index")

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A blob is a run of bytes in the heap as a record names it.
type blob struct {
	off uint64
	len uint32
	crc uint32
}

func putBlob(b []byte, v blob) {
	le.PutUint64(b, v.off)
	le.PutUint32(b[8:], v.len)
	le.PutUint32(b[12:], v.crc)
}

func getBlob(b []byte) blob {
	return blob{off: le.Uint64(b), len: le.Uint32(b[8:]), crc: le.Uint32(b[12:])}
}
