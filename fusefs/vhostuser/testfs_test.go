package vhostuser

import (
	"encoding/binary"
	"os"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// testFS is a filesystem of one file, node 2, named "file".
type testFS struct {
	fuse.RawFileSystem
	file *os.File

	mu      sync.Mutex
	forgets []uint64
	gate    chan struct{} // where not nil, an fsync waits for it
	inFsync chan struct{} // gets an element for each fsync that waits
	locks   chan struct{} // gets an element for each request that waits for a lock
	deaf    bool          // waiting requests heed no interrupt
}

func newTestFS(t testing.TB) *testFS {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &testFS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		file:          file,
		inFsync:       make(chan struct{}, 1024),
		locks:         make(chan struct{}, 1024),
	}
}

func (fs *testFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId != 1 || name != "file" {
		return fuse.ENOENT
	}
	out.NodeId, out.Ino, out.Mode, out.Nlink = 2, 2, fuse.S_IFREG|0o644, 1
	return fuse.OK
}

func (fs *testFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	return fuse.ReadResultFd(fs.file.Fd(), int64(in.Offset), int(in.Size)), fuse.OK
}

func (fs *testFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, err := fs.file.WriteAt(data, int64(in.Offset))
	return uint32(n), fuse.ToStatus(err)
}

func (fs *testFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset == 0 {
		out.AddDirEntry(fuse.DirEntry{Name: "file", Ino: 2, Mode: fuse.S_IFREG, Off: 1})
	}
	return fuse.OK
}

func (fs *testFS) SetXAttr(_ <-chan struct{}, _ *fuse.SetXAttrIn, _ string, data []byte) fuse.Status {
	_, err := fs.file.WriteAt(data, 0)
	return fuse.ToStatus(err)
}

func (fs *testFS) Forget(node, _ uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.forgets = append(fs.forgets, node)
}

func (fs *testFS) Fsync(cancel <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	if fs.gate == nil {
		return fuse.OK
	}
	fs.inFsync <- struct{}{}
	if fs.deaf {
		cancel = nil
	}
	select {
	case <-fs.gate:
		return fuse.OK
	case <-cancel:
		return fuse.EINTR
	}
}

func (fs *testFS) SetLkw(cancel <-chan struct{}, _ *fuse.LkIn) fuse.Status {
	fs.locks <- struct{}{}
	<-cancel
	return fuse.EINTR
}

func (fs *testFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { panic("a bug") }

func u32s(values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// readIn is the body of a READ or READDIR.
func readIn(offset uint64, size uint32) []byte {
	return append(append(u64Payload(1), u64Payload(offset)...), u32s(size, 0, 0, 0, 0, 0)...)
}
