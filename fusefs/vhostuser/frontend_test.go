package vhostuser

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where the fake guest's memory is. The regions are next to each other in the guest, and far apart elsewhere.
const (
	guestBase  = 0x10_0000
	userBase   = 0x7f00_0000_0000
	memorySize = 16 << 20
	ringSpace  = 64 << 10 // for each queue, at the start of the memory
	dataBase   = 2 << 20
	slotSize   = 160 << 10
	patience   = 10 * time.Second
)

// frontend is a virtual machine monitor and its guest's driver: what Serve talks to.
type frontend struct {
	t       testing.TB
	fs      *testFS
	conn    *net.UnixConn
	memfd   int
	memory  []byte
	queues  []*driver
	unique  uint64
	cancel  context.CancelFunc
	served  chan struct{}
	err     error // of Serve, once served is closed
	logs    []string
	logLock sync.Mutex
}

// setup is what a frontend agrees on with the back end.
type setup struct {
	size     int // of each ring
	queues   int // request queues
	features uint64
	indirect bool
}

var plain = setup{size: 16, queues: 1, features: 1<<featureVersion1 | 1<<featureProtocol}

// dial starts Serve and connects to it, without a word of the protocol yet.
func dial(t testing.TB, fs *testFS, o Options) *frontend {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f := &frontend{t: t, fs: fs, served: make(chan struct{}), memfd: -1}
	o.Log = f.log
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	go func() {
		defer close(f.served)
		defer l.Close()
		f.err = Serve(ctx, l, fs, o)
	}()
	f.conn, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

func (f *frontend) log(format string, args ...any) {
	f.logLock.Lock()
	defer f.logLock.Unlock()
	f.logs = append(f.logs, fmt.Sprintf(format, args...))
}

func (f *frontend) logged(part string) bool {
	f.logLock.Lock()
	defer f.logLock.Unlock()
	for _, l := range f.logs {
		if bytes.Contains([]byte(l), []byte(part)) {
			return true
		}
	}
	return false
}

// boot starts Serve and brings all queues up, as QEMU does.
func boot(t testing.TB, fs *testFS, o Options, s setup) *frontend {
	t.Helper()
	o.Queues = s.queues
	f := dial(t, fs, o)
	f.hello(s.features)
	f.shareMemory()
	for i := range s.queues + 1 {
		f.startQueue(i, s)
	}
	return f
}

// hello negotiates features.
func (f *frontend) hello(features uint64) {
	f.t.Helper()
	if offered := f.ask(1, nil); binary.LittleEndian.Uint64(offered)&features != features {
		f.t.Fatalf("features %#x are not offered", features)
	}
	f.ask(15, nil)
	f.send(16, u64Payload(1<<protocolMQ|1<<protocolReplyAck|1<<protocolMemSlots))
	f.tell(3, nil)
	f.tell(2, u64Payload(features))
}

// shareMemory gives the back end the guest's memory as two regions.
func (f *frontend) shareMemory() {
	f.t.Helper()
	var err error
	if f.memfd, err = unix.MemfdCreate("guest", unix.MFD_CLOEXEC); err != nil {
		f.t.Fatal(err)
	}
	if err := unix.Ftruncate(f.memfd, memorySize); err != nil {
		f.t.Fatal(err)
	}
	if f.memory, err = unix.Mmap(f.memfd, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		f.t.Fatal(err)
	}
	f.tell(5, memTable(lowRegion, highRegion), f.memfd, f.memfd)
}

var (
	lowRegion  = regionRange{guest: guestBase, size: memorySize / 2, user: userBase}
	highRegion = regionRange{guest: guestBase + memorySize/2, size: memorySize / 2, user: userBase * 2 / 3, offset: memorySize / 2}
)

func memTable(regions ...regionRange) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(regions)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, r := range regions {
		b = append(b, encodeRegion(r)...)
	}
	return b
}

func encodeRegion(r regionRange) []byte {
	b := binary.LittleEndian.AppendUint64(nil, r.guest)
	b = binary.LittleEndian.AppendUint64(b, r.size)
	b = binary.LittleEndian.AppendUint64(b, r.user)
	return binary.LittleEndian.AppendUint64(b, r.offset)
}

func pair(a, b uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, a), b)
}

// startQueue brings queue i up.
func (f *frontend) startQueue(i int, s setup) *driver {
	f.t.Helper()
	q := newDriver(f, i, s)
	f.bringUp(q, i, s)
	return q
}

// bringUp tells the back end all of queue i.
func (f *frontend) bringUp(q *driver, i int, s setup) {
	f.t.Helper()
	f.queues = append(f.queues, q)
	index := uint32(i)
	f.tell(8, pair(index, uint32(s.size)))
	f.tell(10, pair(index, 0))
	f.tell(9, q.addresses())
	f.tell(12, u64Payload(uint64(i)), q.kick)
	f.tell(13, u64Payload(uint64(i)), q.call)
	f.tell(18, pair(index, 1))
}

// send writes one request, with a wish for no answer.
func (f *frontend) send(request uint32, payload []byte, fds ...int) {
	f.t.Helper()
	f.write(request, flagVersion, payload, fds...)
}

func (f *frontend) write(request, flags uint32, payload []byte, fds ...int) {
	f.t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, request)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := f.conn.WriteMsgUnix(append(b, payload...), rights, nil); err != nil {
		f.t.Logf("write request %d: %v", request, err)
	}
}

// reply reads an answer to request.
func (f *frontend) reply(request uint32) ([]byte, error) {
	f.conn.SetReadDeadline(time.Now().Add(patience))
	header := make([]byte, headerSize)
	if err := readFull(f.conn, header); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint32(header); got != request {
		return nil, fmt.Errorf("answer to request %d, not %d", got, request)
	}
	payload := make([]byte, binary.LittleEndian.Uint32(header[8:]))
	return payload, readFull(f.conn, payload)
}

func readFull(conn *net.UnixConn, b []byte) error {
	for len(b) > 0 {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ask sends a request that has an answer of its own.
func (f *frontend) ask(request uint32, payload []byte) []byte {
	f.t.Helper()
	f.send(request, payload)
	answer, err := f.reply(request)
	if err != nil {
		f.t.Fatalf("request %d: %v", request, err)
	}
	return answer
}

// try sends a request to be acknowledged, and returns whether it was accepted.
func (f *frontend) try(request uint32, payload []byte, fds ...int) (bool, error) {
	f.t.Helper()
	f.write(request, flagVersion|flagNeedReply, payload, fds...)
	answer, err := f.reply(request)
	if err != nil {
		return false, err
	}
	return binary.LittleEndian.Uint64(answer) == 0, nil
}

func (f *frontend) tell(request uint32, payload []byte, fds ...int) {
	f.t.Helper()
	if ok, err := f.try(request, payload, fds...); err != nil || !ok {
		f.t.Fatalf("request %d: accepted %v, %v, log %q", request, ok, err, f.logs)
	}
}

// hangUp closes the connection and returns what Serve returned.
func (f *frontend) hangUp() error {
	f.t.Helper()
	f.conn.Close()
	return f.wait()
}

func (f *frontend) wait() error {
	f.t.Helper()
	select {
	case <-f.served:
	case <-time.After(patience):
		f.t.Fatal("Serve does not return")
	}
	return f.err
}

func (f *frontend) close() {
	f.conn.Close()
	f.cancel()
	<-f.served
	for _, q := range f.queues {
		unix.Close(q.kick)
		unix.Close(q.call)
	}
	if f.memory != nil {
		unix.Munmap(f.memory)
		unix.Close(f.memfd)
	}
}

// driver is the guest's side of one queue.
type driver struct {
	f                 *frontend
	size              int
	eventIdx          bool
	indirect          bool
	desc, avail, used []byte
	start, index      int
	kick, call        int
	next, seen        uint16
	free              []uint16
	kicks             int
}

func newDriver(f *frontend, i int, s setup) *driver {
	q := &driver{f: f, size: s.size, index: i, start: i * ringSpace, indirect: s.indirect, eventIdx: s.features&(1<<featureEventIdx) != 0}
	q.desc = f.memory[q.start:][:16*s.size]
	q.avail = f.memory[q.start+0x8000:][:6+2*s.size]
	q.used = f.memory[q.start+0xa000:][:6+8*s.size]
	for _, fd := range []*int{&q.kick, &q.call} {
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			f.t.Fatal(err)
		}
	}
	for slot := range s.size / 4 { // 4 descriptors a request
		q.free = append(q.free, uint16(4*slot))
	}
	return q
}

func (q *driver) addresses() []byte { return ringAddressesOf(q.index) }

// ringAddressesOf is the SET_VRING_ADDR of queue i.
func ringAddressesOf(i int) []byte {
	b := pair(uint32(i), 0)
	for _, off := range []int{0, 0xa000, 0x8000, 0} {
		b = append(b, u64Payload(uint64(userBase+i*ringSpace+off))...)
	}
	return b
}

// slot is where the request at head has its bytes: a table, then what it says, then room for the answer.
func (q *driver) slot(head uint16) int {
	return dataBase + (q.index*16+int(head)/4%16)*slotSize
}

func putDescriptor(b []byte, addr uint64, length int, flags, next uint16) {
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], uint32(length))
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// submit makes a request available, in two pieces, with room for an answer of outSize bytes, in two pieces as well.
func (q *driver) submit(in []byte, outSize int) (head uint16) {
	head = q.free[0]
	q.free = q.free[1:]
	slot := q.slot(head)
	copy(q.f.memory[slot+256:], in)
	type piece struct {
		off, n int
		flags  uint16
	}
	cut := min(len(in), inHeaderSize)
	out, outCut := slotSize-outSize, min(outSize, outHeaderSize)
	pieces := [...]piece{
		{256, cut, 0}, {256 + cut, len(in) - cut, 0},
		{out, outCut, descWrite}, {out + outCut, outSize - outCut, descWrite},
	}
	table, base := q.desc, head
	if q.indirect {
		table, base = q.f.memory[slot:], 0
	}
	n := uint16(0)
	for _, p := range pieces {
		if p.n > 0 {
			putDescriptor(table[16*(base+n):], uint64(guestBase+slot+p.off), p.n, p.flags|descNext, base+n+1)
			n++
		}
	}
	last := table[16*(base+n-1):]
	binary.LittleEndian.PutUint16(last[12:], binary.LittleEndian.Uint16(last[12:])&^descNext)
	if q.indirect {
		putDescriptor(q.desc[16*head:], uint64(guestBase+slot), 16*int(n), descIndirect, 0)
	}
	q.offer(head)
	return head
}

// offer publishes head in the available ring, and kicks if the device wants that.
func (q *driver) offer(head uint16) {
	store16(q.avail, 4+2*(int(q.next)%q.size), head)
	q.next++
	store16(q.avail, 2, q.next)
	if q.eventIdx {
		if event := load16(q.used, 4+8*q.size); q.next-event-1 >= 1 {
			return
		}
	} else if load16(q.used, 0)&usedNoNotify != 0 {
		return
	}
	q.kicks++
	signal(q.kick)
}

var errNoAnswer = errors.New("no answer")

// collect returns the next chain that came back, and the bytes written to it.
func (q *driver) collect(timeout time.Duration) (head uint16, n int, err error) {
	deadline := time.Now().Add(timeout)
	for load16(q.used, 2) == q.seen {
		if q.eventIdx {
			store16(q.avail, 4+2*q.size, q.seen)
			if load16(q.used, 2) != q.seen {
				break
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			return 0, 0, errNoAnswer
		}
		events := []unix.PollFd{{Fd: int32(q.call), Events: unix.POLLIN}}
		if _, err := unix.Poll(events, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return 0, 0, err
		}
		var value [8]byte
		unix.Read(q.call, value[:])
	}
	entry := q.used[4+8*(int(q.seen)%q.size):]
	q.seen++
	head = uint16(binary.LittleEndian.Uint32(entry))
	q.free = append(q.free, head)
	return head, int(binary.LittleEndian.Uint32(entry[4:])), nil
}

// answer returns the reply at head.
func (q *driver) answer(head uint16, outSize, n int) []byte {
	end := q.slot(head) + slotSize
	return bytes.Clone(q.f.memory[end-outSize:][:n])
}

// call sends one request and waits for its answer.
func (q *driver) roundTrip(in []byte, outSize int) []byte {
	q.f.t.Helper()
	head := q.submit(in, outSize)
	got, n, err := q.collect(patience)
	if err != nil || got != head {
		q.f.t.Fatalf("chain %d came back, not %d: %v, log %q", got, head, err, q.f.logs)
	}
	return q.answer(head, outSize, n)
}

// message builds a FUSE request to node from its parts after the header.
func (f *frontend) message(op uint32, node uint64, parts ...[]byte) []byte {
	f.unique++
	body := bytes.Join(parts, nil)
	b := pair(uint32(inHeaderSize+len(body)), op)
	b = binary.LittleEndian.AppendUint64(b, f.unique)
	b = binary.LittleEndian.AppendUint64(b, node)
	return append(append(b, make([]byte, inHeaderSize-len(b))...), body...)
}

// status returns the error a FUSE reply holds.
func status(reply []byte) unix.Errno {
	if len(reply) < outHeaderSize {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.LittleEndian.Uint32(reply[4:])))
}

// writeRaw writes bytes as they are, with copies of a descriptor.
func (f *frontend) writeRaw(b []byte, fds int) {
	f.t.Helper()
	var rights []byte
	if fds > 0 {
		file, err := f.conn.File()
		if err != nil {
			f.t.Fatal(err)
		}
		defer file.Close()
		rights = unix.UnixRights(slices.Repeat([]int{int(file.Fd())}, fds)...)
	}
	if len(b) > 0 {
		f.conn.WriteMsgUnix(b, rights, nil)
	}
}
