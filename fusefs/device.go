package fusefs

import (
	"encoding/binary"
	"log"
	"runtime"
	"sync"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs/relay"
)

// A device is a /dev/fuse descriptor, and answers the requests that come out of it.
//
// One goroutine reads at a time, and answers what it has read itself. The reading passes to another goroutine while a request takes
// long, and when more are waiting.
type device struct {
	fd       *descriptor
	requests *fuse.ProtocolServer
	buffers  sync.Pool // of *deviceBuffers
	ended    chan struct{}
	relay    *relay.Relay
}

// deviceBuffers hold the largest request and the largest reply. Pages that were never used take no memory.
type deviceBuffers struct {
	in, out [maxIO + 4096]byte
}

const (
	// maxReaders is how many goroutines answer at once because more requests are waiting. What takes long adds to them.
	maxReaders = 16

	// yieldEvery is how many requests a goroutine answers before it yields. Go's scheduler takes the processor from one in a system
	// call when its time slice of 10 ms ends, and then looks every 20 µs for more to take; who yields has a new slice.
	yieldEvery = 32
)

func newDevice(fd *descriptor, c *Connection, o *fuse.MountOptions) *device {
	d := &device{fd: fd, requests: fuse.NewProtocolServer(c, o), ended: make(chan struct{})}
	d.buffers.New = func() any { return new(deviceBuffers) }
	d.relay = relay.New(d.readAndAnswer)
	return d
}

// serve answers until the mount is gone.
func (d *device) serve() {
	defer d.fd.release()
	if !d.initialize() {
		return
	}
	d.relay.Another()
	<-d.ended
}

// initialize answers INIT, which comes first and alone: what it settles is only read from then on.
func (d *device) initialize() bool {
	b := d.buffers.Get().(*deviceBuffers)
	defer d.buffers.Put(b)
	request, ok := d.read(b.in[:])
	if ok {
		d.answer(request, b.out[:])
	}
	return ok
}

func (d *device) readAndAnswer() {
	defer d.leave()
	b := d.buffers.Get().(*deviceBuffers)
	defer d.buffers.Put(b)
	for answered := 0; ; answered++ {
		if answered%yieldEvery == 0 {
			runtime.Gosched()
		}
		request, ok := d.read(b.in[:])
		if !ok { // the mount is gone, and nobody takes over
			return
		}
		d.pass(request)
		d.answer(request, b.out[:])
		if !d.relay.Resume() {
			return
		}
	}
}

// read gives the next request, or false when the mount is gone.
func (d *device) read(b []byte) ([]byte, bool) {
	for {
		n, err := unix.Read(d.fd.fd, b)
		switch {
		case err == nil && n >= inHeaderSize:
			return b[:n], true
		case err == nil, err == unix.EINTR, err == unix.EAGAIN, err == unix.ENOENT: // ENOENT: the request was taken back
		default:
			if err != unix.ENODEV {
				log.Printf("mica: filesystem: read /dev/fuse: %v", err)
			}
			return nil, false
		}
	}
}

// pass lets go of the reading while request is answered: to another goroutine at once, or to whom it may concern.
func (d *device) pass(request []byte) {
	if isSlow(request) || d.isAnyWaiting(request) {
		d.relay.Another()
		return
	}
	d.relay.Pass()
}

func (d *device) leave() {
	if d.relay.Leave() {
		close(d.ended)
	}
}

// isSlow knows the requests that wait for a disk by their nature.
func isSlow(request []byte) bool {
	switch opcode(request) {
	case opFsync, opFsyncdir, opFallocate, opCopyFileRange:
		return true
	}
	return false
}

// isAnyWaiting reports whether another goroutine should answer what waits behind request. Behind what no client waits for, its next
// request does, and is answered sooner than another thread wakes.
func (d *device) isAnyWaiting(request []byte) bool {
	switch opcode(request) {
	case opForget, opBatchForget, opRelease, opReleasedir:
		return false
	}
	if d.relay.Goroutines() >= maxReaders {
		return false
	}
	waiting := []unix.PollFd{{Fd: int32(d.fd.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(waiting, 0)
	return err == nil && n > 0
}

// answer answers request, in the buffer out.
func (d *device) answer(request, out []byte) {
	n, status := d.requests.HandleRequest([][]byte{request}, [][]byte{out})
	if n == 0 && !status.Ok() {
		n = refuse(request, out, status)
	}
	if n == 0 {
		return
	}
	_, err := ignoringEINTR2(func() (int, error) { return unix.Write(d.fd.fd, out[:n]) })
	if err != nil && err != unix.ENOENT && err != unix.ENODEV { // the request was taken back, or the mount is gone
		log.Printf("mica: filesystem: answer a request of type %d: %v", opcode(request), err)
	}
}

// refuse writes an error as the reply to request: without one, the client would wait for ever.
func refuse(request, out []byte, status fuse.Status) int {
	binary.NativeEndian.PutUint32(out, uint32(outHeaderSize))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(status)))
	binary.NativeEndian.PutUint64(out[8:], binary.NativeEndian.Uint64(request[8:])) // unique
	return outHeaderSize
}

// Parts of struct fuse_in_header, struct fuse_out_header and enum fuse_opcode (Linux's include/uapi/linux/fuse.h).
const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))

	opForget        = 2
	opRelease       = 18
	opFsync         = 20
	opReleasedir    = 29
	opFsyncdir      = 30
	opBatchForget   = 42
	opFallocate     = 43
	opCopyFileRange = 47
)

func opcode(request []byte) uint32 { return binary.NativeEndian.Uint32(request[4:]) }
