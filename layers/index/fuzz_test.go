package index_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"testing"

	"github.com/micavm/mica/layers/index"
)

// FuzzOpen reads whatever an index file says: it ends, in an answer or in ErrCorrupt. Checksums are mended first, or no change would
// get past them.
func FuzzOpen(f *testing.F) {
	b := index.NewBuilder("sha256:x")
	must(f, b.Add("a/b", index.Record{Mode: symlink, Target: "t", Xattrs: map[string]string{"user.x": "y"}}))
	must(f, b.Add("a/c", index.Record{Hardlink: "a/b"}))
	must(f, b.Add("a/d/e", index.Record{Mode: file}))
	must(f, b.Whiteout("a/w"))
	f.Add(encode(f, b))
	f.Add(encode(f, index.NewBuilder("")))
	f.Fuzz(func(t *testing.T, data []byte) {
		mend(data)
		err := readAll(writeFile(t, data))
		if err != nil && !errors.Is(err, index.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

// mend makes every checksum of an index file right.
func mend(data []byte) {
	const header, record = 256, 96
	if len(data) < header {
		return
	}
	le, table := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint64(data[16:], uint64(len(data)))
	le.PutUint32(data[12:], 0)
	le.PutUint32(data[12:], crc32.Checksum(data[:header], table))
	for n := range uint64(le.Uint32(data[24:])) {
		off := header + n*record
		if off+record > uint64(len(data)) {
			return
		}
		r := data[off : off+record]
		for _, at := range []int{48, 64} {
			start, length := le.Uint64(r[at:]), uint64(le.Uint32(r[at+8:]))
			if start >= header && start <= uint64(len(data)) && length <= uint64(len(data))-start {
				le.PutUint32(r[at+12:], crc32.Checksum(data[start:start+length], table))
			}
		}
		le.PutUint32(r[92:], crc32.Checksum(r[:92], table))
	}
}
