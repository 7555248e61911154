package fusefs

import (
	"encoding/binary"
	"log"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A device is a /dev/fuse descriptor, and answers the requests that come out of it.
//
// One goroutine reads at a time, and answers what it has read itself: a client that asks one thing after the other is served
// by one thread, and no other is woken for it. The reading passes to another goroutine while a request takes long, and when
// more are waiting; whoever is done with a request, and finds that another one reads, ends.
type device struct {
	fd       *descriptor
	requests *fuse.ProtocolServer
	buffers  sync.Pool // of *deviceBuffers
	ended    chan struct{}

	mu      sync.Mutex
	reading bool // a goroutine reads, or the mount is gone
	readers int  // goroutines that read or answer

	// relief has another goroutine read when the one that did is at a request for long: a disk, or a lock.
	relief *time.Timer
	armed  bool
	taken  uint64 // requests that were answered by whoever read them
	seen   uint64 // taken when relief was armed
}

// deviceBuffers hold the largest request and the largest reply. Pages that were never used take no memory.
type deviceBuffers struct {
	in, out [maxIO + 4096]byte
}

const (
	// maxReaders is how many goroutines answer at once because more requests are waiting. What takes long adds to them.
	maxReaders  = 16
	reliefAfter = 5 * time.Millisecond

	// yieldEvery is how many requests a goroutine answers before it yields. Go's scheduler takes the processor from one in a system
	// call when its time slice of 10 ms ends, and then looks every 20 µs for more to take; who yields has a new slice.
	yieldEvery = 32
)

func newDevice(fd *descriptor, c *Connection, o *fuse.MountOptions) *device {
	d := &device{fd: fd, requests: fuse.NewProtocolServer(c, o), ended: make(chan struct{})}
	d.buffers.New = func() any { return new(deviceBuffers) }
	d.relief = time.AfterFunc(time.Hour, d.relieve)
	return d
}

// serve answers until the mount is gone.
func (d *device) serve() {
	defer d.fd.release()
	defer d.relief.Stop()
	if !d.initialize() {
		return
	}
	d.mu.Lock()
	d.startReader()
	d.mu.Unlock()
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

// startReader has another goroutine read. The caller holds mu.
func (d *device) startReader() {
	d.reading = true
	d.readers++
	go d.readAndAnswer()
}

func (d *device) readAndAnswer() {
	b := d.buffers.Get().(*deviceBuffers)
	defer d.buffers.Put(b)
	for answered := 0; ; answered++ {
		if answered%yieldEvery == 0 {
			runtime.Gosched()
		}
		request, ok := d.read(b.in[:])
		if !ok {
			d.end()
			return
		}
		d.pass(request)
		d.answer(request, b.out[:])
		if !d.resume() {
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
	now := isSlow(request) || d.isAnyWaiting(request)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now {
		d.startReader()
		return
	}
	d.reading = false
	d.taken++
	if !d.armed {
		d.armed, d.seen = true, d.taken
		d.relief.Reset(reliefAfter)
	}
}

// resume takes up the reading again; it is false when another goroutine has it.
func (d *device) resume() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading {
		d.leave()
		return false
	}
	d.reading = true
	return true
}

func (d *device) relieve() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.reading:
		d.armed = false
	case d.seen != d.taken:
		d.seen = d.taken
		d.relief.Reset(reliefAfter)
	default:
		d.armed = false
		d.startReader()
	}
}

// end is for the goroutine that reads and finds the mount gone: nobody takes over.
func (d *device) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave()
}

func (d *device) leave() {
	if d.readers--; d.readers == 0 {
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
	d.mu.Lock()
	enough := d.readers >= maxReaders
	d.mu.Unlock()
	if enough {
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
