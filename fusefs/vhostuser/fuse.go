package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The requests this package has to know apart (enum fuse_opcode of Linux's include/uapi/linux/fuse.h).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opMknod         = 8
	opMkdir         = 9
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opGetlk         = 31
	opSetlk         = 32
	opSetlkw        = 33
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opDestroy       = 38
	opIoctl         = 39
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
)

const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
	writeInSize   = int(unsafe.Sizeof(fuse.WriteIn{}))
	smallSize     = 128 // what HandleRequest copies before it parses anything
)

// fixedSize is the least size of a request that is more than its header. HandleRequest checks it too, but reports
// each violation to the standard logger, which a guest could fill.
var fixedSize = [...]uintptr{
	opForget:        unsafe.Sizeof(fuse.ForgetIn{}),
	opGetattr:       unsafe.Sizeof(fuse.GetAttrIn{}),
	opSetattr:       unsafe.Sizeof(fuse.SetAttrIn{}),
	opMknod:         unsafe.Sizeof(fuse.MknodIn{}),
	opMkdir:         unsafe.Sizeof(fuse.MkdirIn{}),
	opRename:        unsafe.Sizeof(fuse.InHeader{}) + 8,
	opLink:          unsafe.Sizeof(fuse.LinkIn{}),
	opOpen:          unsafe.Sizeof(fuse.OpenIn{}),
	opRead:          unsafe.Sizeof(fuse.ReadIn{}),
	opWrite:         unsafe.Sizeof(fuse.WriteIn{}),
	opRelease:       unsafe.Sizeof(fuse.ReleaseIn{}),
	opFsync:         unsafe.Sizeof(fuse.FsyncIn{}),
	opSetxattr:      unsafe.Sizeof(fuse.InHeader{}) + 8,
	opGetxattr:      unsafe.Sizeof(fuse.GetXAttrIn{}),
	opListxattr:     unsafe.Sizeof(fuse.GetXAttrIn{}),
	opFlush:         unsafe.Sizeof(fuse.FlushIn{}),
	opInit:          unsafe.Sizeof(fuse.InHeader{}) + 16,
	opOpendir:       unsafe.Sizeof(fuse.OpenIn{}),
	opReaddir:       unsafe.Sizeof(fuse.ReadIn{}),
	opReleasedir:    unsafe.Sizeof(fuse.ReleaseIn{}),
	opFsyncdir:      unsafe.Sizeof(fuse.FsyncIn{}),
	opGetlk:         unsafe.Sizeof(fuse.LkIn{}),
	opSetlk:         unsafe.Sizeof(fuse.LkIn{}),
	opSetlkw:        unsafe.Sizeof(fuse.LkIn{}),
	opAccess:        unsafe.Sizeof(fuse.AccessIn{}),
	opCreate:        unsafe.Sizeof(fuse.CreateIn{}),
	opInterrupt:     unsafe.Sizeof(fuse.InterruptIn{}),
	opIoctl:         unsafe.Sizeof(fuse.IoctlIn{}),
	opBatchForget:   unsafe.Sizeof(fuse.InHeader{}) + 8,
	opFallocate:     unsafe.Sizeof(fuse.FallocateIn{}),
	opReaddirplus:   unsafe.Sizeof(fuse.ReadIn{}),
	opRename2:       unsafe.Sizeof(fuse.RenameIn{}),
	opLseek:         unsafe.Sizeof(fuse.LseekIn{}),
	opCopyFileRange: unsafe.Sizeof(fuse.CopyFileRangeIn{}),
	opTmpfile:       unsafe.Sizeof(fuse.CreateIn{}),
}

// request is one FUSE request that was taken from a queue and is not given back yet.
type request struct {
	chain
	queue      *queue
	generation uint64 // of the queue
	memory     *memory
	server     *fuse.ProtocolServer
	place      int           // in queue.active
	refused    syscall.Errno // the answer, where it is not the filesystem's

	// The request's first bytes, read once: the guest can change its own copy while it is parsed.
	start     [smallSize]byte
	startSize int
}

func (r *request) load() {
	r.startSize = copyIn(r.start[:], r.in)
}

func (r *request) opcode() uint32 {
	if r.startSize < inHeaderSize {
		return 0
	}
	return binary.LittleEndian.Uint32(r.start[4:])
}

func (r *request) unique() uint64 { return binary.LittleEndian.Uint64(r.start[8:]) }

// extended says whether something follows the request that has to be parsed (InHeader.TotalExtlen).
func (r *request) extended() bool { return binary.LittleEndian.Uint16(r.start[36:]) != 0 }

// quick says whether a request is answered so fast that to wake another goroutine for it would take longer, and
// never waits for another request of the guest.
func (r *request) quick() bool {
	switch r.opcode() {
	case opOpen: // opening to write may copy the file up
		flags := binary.LittleEndian.Uint32(r.start[inHeaderSize:])
		return flags&(syscall.O_ACCMODE|syscall.O_TRUNC) == syscall.O_RDONLY
	case 0, opLookup, opForget, opGetattr, opReadlink, opStatfs, opRelease, opGetxattr, opListxattr, opFlush, opInit,
		opOpendir, opReaddir, opReaddirplus, opReleasedir, opAccess, opInterrupt, opDestroy, opBatchForget, opLseek:
		return true
	}
	return false
}

// slow knows the requests that wait for a disk, or for another request, by their nature.
func (r *request) slow() bool {
	switch r.opcode() {
	case opSetlkw, opFsync, opFsyncdir, opFallocate, opCopyFileRange, opSyncfs:
		return true
	}
	return false
}

// scratch is what a goroutine that answers requests keeps between them.
type scratch struct {
	in, out     []byte
	inIov       [][]byte
	outIov      [1][]byte
	errorHeader [outHeaderSize]byte
}

// grow returns a buffer of n bytes, *b if it is large enough.
func grow(b *[]byte, n int) []byte {
	if cap(*b) < n {
		*b = make([]byte, max(n, 8<<10))
	}
	return (*b)[:n]
}

// session is the FUSE side of one connection.
type session struct {
	fs      fuse.RawFileSystem
	options *fuse.MountOptions
	limit   int // bytes a request or a reply may have
	sync    func() error
	server  atomic.Pointer[fuse.ProtocolServer]
}

func newSession(fs fuse.RawFileSystem, o Options) *session {
	options := fuse.MountOptions{}
	if o.Mount != nil {
		options = *o.Mount
	}
	options.Logger = log.New(logWriter(o.Log), "", 0)
	options.DisabledCapabilities |= fuse.CAP_PASSTHROUGH // backing files need a /dev/fuse
	s := &session{fs: fs, options: &options, sync: o.Sync}
	// Linux asks for 32 pages where MaxWrite is less; the rest is room for headers and names.
	s.limit = max(options.MaxWrite, 128<<10) + 16<<10
	s.server.Store(fuse.NewProtocolServer(fs, s.options))
	return s
}

// answer serves r and returns how many bytes of the reply it wrote into the guest's memory.
func (s *session) answer(r *request, b *scratch) int {
	op := r.opcode()
	switch {
	case r.refused != 0:
		return s.refuse(r, b, r.refused)
	case r.startSize < inHeaderSize || r.inSize > s.limit || r.outSize > s.limit:
		return s.refuse(r, b, syscall.EIO)
	case int(op) < len(fixedSize) && r.inSize < int(fixedSize[op]):
		return s.refuse(r, b, syscall.EIO)
	case op == opSyncfs && s.sync != nil: // go-fuse does not know it
		return s.finish(r, b, s.sync())
	}
	server := r.server
	if op == opInit {
		// A guest that mounts again begins again. A server of its own also means that nothing reads the
		// negotiated settings while they change.
		server = fuse.NewProtocolServer(s.fs, s.options)
		defer s.server.Store(server)
	}
	out := r.out
	if op != opRead {
		// What a filesystem builds in its reply buffer it may look at again: keep that out of the guest's reach.
		b.outIov[0] = grow(&b.out, r.outSize)
		out = b.outIov[:]
	}
	n, status := server.HandleRequest(s.input(r, b), out)
	if n == 0 && !status.Ok() {
		return s.refuse(r, b, syscall.Errno(status))
	}
	if op != opRead {
		n = copyOut(r.out, b.out[:n])
	}
	return n
}

// input returns the request's bytes: private ones, but for the data of a WRITE, which nobody parses.
func (s *session) input(r *request, b *scratch) [][]byte {
	b.inIov = b.inIov[:0]
	switch {
	case r.inSize <= smallSize:
		b.inIov = append(b.inIov, r.start[:r.inSize])
	case r.opcode() == opWrite && !r.extended():
		b.inIov = append(b.inIov, r.start[:writeInSize])
		b.inIov = skip(b.inIov, r.in, writeInSize)
	default:
		in := grow(&b.in, r.inSize)
		copyIn(in, r.in)
		copy(in, r.start[:])
		b.inIov = append(b.inIov, in)
	}
	return b.inIov
}

// finish writes a reply that is nothing but a header.
func (s *session) finish(r *request, b *scratch, err error) int {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return s.refuse(r, b, errno)
}

// refuse writes an error reply (or, with 0, a good one of no more than its header), where there is room for one: a guest that asked and hears nothing waits for ever.
func (s *session) refuse(r *request, b *scratch, errno syscall.Errno) int {
	if r.outSize < outHeaderSize {
		return 0
	}
	header := b.errorHeader[:]
	binary.LittleEndian.PutUint32(header, uint32(outHeaderSize))
	binary.LittleEndian.PutUint32(header[4:], uint32(-int32(errno)))
	binary.LittleEndian.PutUint64(header[8:], r.unique())
	return copyOut(r.out, header)
}

// interrupt cancels the request of that number, where server is at it.
func interrupt(server *fuse.ProtocolServer, unique uint64) {
	var in [48]byte
	binary.LittleEndian.PutUint32(in[0:], uint32(len(in)))
	binary.LittleEndian.PutUint32(in[4:], opInterrupt)
	binary.LittleEndian.PutUint64(in[inHeaderSize:], unique)
	server.HandleRequest([][]byte{in[:]}, [][]byte{make([]byte, outHeaderSize)})
}

// logWriter makes a function of Printf's form the destination of a logger.
type logWriter func(format string, args ...any)

func (w logWriter) Write(line []byte) (int, error) {
	w("%s", line[:max(len(line)-1, 0)])
	return len(line), nil
}

// maxLogLines is how many lines one connection may log: a guest can cause as many as it likes.
const maxLogLines = 100

func limitLog(logf func(string, ...any)) func(string, ...any) {
	if logf == nil {
		return func(string, ...any) {}
	}
	var lines atomic.Int64
	return func(format string, args ...any) {
		switch n := lines.Add(1); {
		case n < maxLogLines:
			logf("%s", fmt.Sprintf(format, args...))
		case n == maxLogLines:
			logf("vhost-user: more than %d lines, the rest is dropped", maxLogLines)
		}
	}
}
