package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs/relay"
)

const (
	// interruptAfter is how long requests may take to finish by themselves when their queue stops.
	interruptAfter = 100 * time.Millisecond
	// maxTakers is how many goroutines of a queue answer what they took. Then what may take time goes to the workers.
	maxTakers = 8
	// drainTimeout is how long a filesystem that does not heed interrupts can hold up a queue that stops.
	drainTimeout = 5 * time.Second
)

// queue is one virtqueue: what the front end said of it, and while it runs, a poller that takes requests from it.
type queue struct {
	device *device
	index  int

	mu        sync.Mutex
	ring      ring
	addresses ringAddresses
	placed    bool // addresses are set
	enabled   bool
	kick      int // for the next poller; -1 for none
	kickless  bool
	call      int // eventfd, or -1
	errFD     int // eventfd, or -1
	broken    error

	memory     *memory // while there is a poller
	poller     *poller
	generation uint64 // incremented when the ring is taken away from requests that did not end
	active     []*request
	free       []*request
	drained    chan struct{} // closed when active becomes empty
}

func newQueue(d *device, index int) *queue {
	return &queue{device: d, index: index, kick: -1, call: -1, errFD: -1}
}

// poller is the goroutines that wait for kicks, one at a time: it takes a request, and answers it. When an answer takes long, another one
// takes what comes next.
type poller struct {
	queue *queue
	kick  int           // eventfd
	wake  int           // eventfd, by which it is told to look at the queue's state
	every int           // milliseconds to wait for a kick at most; -1 for ever
	stop  chan struct{} // closed when stopped is set
	done  chan struct{} // closed when the goroutines are gone
	relay *relay.Relay
	begin sync.Once // the ring is taken up

	stopped bool // guarded by queue.mu
}

// start begins to serve the queue once everything it takes is known.
func (q *queue) start() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.poller != nil || !q.placed || q.ring.size == 0 || q.kick < 0 && !q.kickless {
		return nil
	}
	if err := q.ring.place(q.device.memory, q.addresses); err != nil {
		return fmt.Errorf("queue %d: %w", q.index, err)
	}
	p, err := q.newPoller()
	if err != nil {
		return fmt.Errorf("queue %d: %w", q.index, err)
	}
	q.ring.eventIdx = q.device.features&(1<<featureEventIdx) != 0
	q.broken = nil
	q.memory = q.device.memory.hold()
	q.poller = p
	p.relay.Another()
	return nil
}

// newPoller makes a poller of the kick descriptor, which it then owns.
func (q *queue) newPoller() (*poller, error) {
	p := &poller{queue: q, kick: q.kick, every: -1, stop: make(chan struct{}), done: make(chan struct{})}
	p.relay = relay.New(p.run)
	if q.kickless {
		p.every = 1
	}
	q.kick, q.kickless = -1, false
	err := checkKick(p.kick)
	if err == nil {
		p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		err = os.NewSyscallError("eventfd", err)
	}
	if err != nil {
		closeFD(&p.kick)
		return nil, err
	}
	return p, nil
}

// checkKick refuses what would always be ready to be read.
func checkKick(fd int) error {
	if fd < 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK, unix.S_IFCHR:
		return errors.New("kick descriptor is no eventfd")
	}
	return nil
}

// move puts a running queue onto another memory or other addresses.
func (q *queue) move(m *memory) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.poller == nil {
		return nil
	}
	if err := q.ring.place(m, q.addresses); err != nil {
		q.fail(err)
		return fmt.Errorf("queue %d: %w", q.index, err)
	}
	q.memory.release()
	q.memory = m.hold()
	return nil
}

// fail ends the service of a queue whose rules the guest broke, until its driver resets it.
func (q *queue) fail(err error) {
	if q.broken != nil {
		return
	}
	q.broken = err
	q.device.log("vhost-user: queue %d is broken: %v", q.index, err)
	signal(q.errFD)
}

// failOnFault is deferred where guest memory is touched: a front end that cuts off the file behind it makes the
// access fault.
func (q *queue) failOnFault() {
	if p := recover(); p != nil {
		q.fail(panicError(p))
	}
}

func panicError(p any) error {
	if fault, ok := p.(interface{ Addr() uintptr }); ok {
		return fmt.Errorf("guest memory is gone at %#x", fault.Addr())
	}
	return fmt.Errorf("panic: %v", p)
}

func (p *poller) run() {
	defer p.leave()
	debug.SetPanicOnFault(true)
	p.begin.Do(p.queue.begin)
	var b scratch
	for {
		r, more := p.queue.next(p)
		switch {
		case !more:
			return
		case r != nil && p.pass(r):
			p.queue.serve(r, &b)
			if !p.relay.Resume() {
				return
			}
		case r != nil:
			p.queue.device.dispatch(r, &b)
		default:
			if err := p.wait(); err != nil {
				p.queue.mu.Lock()
				p.queue.fail(err)
				p.queue.mu.Unlock()
				<-p.stop
			}
		}
	}
}

// pass lets go of the taking while r is answered; it is false when r is not to be answered here.
func (p *poller) pass(r *request) bool {
	if r.slow() || p.relay.Goroutines() >= maxTakers {
		return false
	}
	p.relay.Pass()
	return true
}

// leave is the end of a goroutine; the last one ends the poller.
func (p *poller) leave() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	if p.relay.Leave() {
		closeFD(&p.kick)
		closeFD(&p.wake)
		close(p.done)
	}
}

// wait sleeps until there is a kick or something else to see to. It sleeps in poll(2), not in the runtime's poller: a goroutine that waits
// there gives its processor to others, who look for work before they sleep, and the guest's own processor is one of few.
func (p *poller) wait() error {
	waited := []unix.PollFd{{Fd: int32(p.kick), Events: unix.POLLIN}, {Fd: int32(p.wake), Events: unix.POLLIN}}
	if _, err := unix.Poll(waited, p.every); err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	for _, w := range waited {
		if w.Revents == 0 {
			continue
		}
		var value [8]byte
		n, err := unix.Read(int(w.Fd), value[:])
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return fmt.Errorf("read kick: %w", err)
		}
	}
	return nil
}

// begin takes up the used ring.
func (q *queue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.failOnFault()
	q.ring.start()
}

// next returns the queue's next request, nil where the poller has to wait for it, and whether the poller goes on.
func (q *queue) next(p *poller) (r *request, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.stopped {
		return nil, false
	}
	more = true
	if !q.enabled || q.broken != nil {
		return nil, more
	}
	defer q.failOnFault()
	n, err := q.ring.pending()
	if n == 0 && err == nil {
		q.ring.wantKicks()
		n, err = q.ring.pending() // made available before the guest saw that it is to kick
	}
	if n == 0 && err == nil {
		return nil, true
	}
	if err == nil && len(q.active) >= q.ring.size {
		err = fmt.Errorf("guest made more than %d chains of a ring available", q.ring.size)
	}
	if err != nil {
		q.fail(err)
		return nil, true
	}
	q.ring.refuseKicks()
	head, err := q.ring.take()
	if err == nil {
		r, err = q.request(head)
	}
	if err != nil {
		q.fail(err)
		return nil, true
	}
	return r, true
}

// request takes up the chain at head.
func (q *queue) request(head uint16) (*request, error) {
	var r *request
	if n := len(q.free); n > 0 {
		r, q.free = q.free[n-1], q.free[:n-1]
	} else {
		r = &request{queue: q}
	}
	ok := false
	defer func() {
		if !ok {
			q.free = append(q.free, r)
		}
	}()
	if err := r.walk(&q.ring, q.memory, head); err != nil {
		return nil, err
	}
	r.load()
	ok = true
	r.generation = q.generation
	r.memory = q.memory.hold()
	r.server = q.device.session.server.Load()
	r.refused = 0
	r.place = len(q.active)
	q.active = append(q.active, r)
	return r, nil
}

// serve answers r and gives it back to the guest.
func (q *queue) serve(r *request, b *scratch) {
	n, err := q.device.answer(r, b)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.fail(err)
	}
	q.put(r, n)
	q.drop(r)
}

// put writes r into the used ring, unless the ring was taken away meanwhile.
func (q *queue) put(r *request, n int) {
	if q.broken != nil || r.generation != q.generation || q.memory == nil {
		return
	}
	defer q.failOnFault()
	q.ring.put(r.head, n)
	if q.ring.wantsCall() {
		signal(q.call)
	}
}

// drop ends r, whatever became of it.
func (q *queue) drop(r *request) {
	last := len(q.active) - 1
	q.active[r.place] = q.active[last]
	q.active[r.place].place = r.place
	q.active = q.active[:last]
	r.memory.release()
	r.memory, r.server = nil, nil
	q.free = append(q.free, r)
	if last == 0 && q.drained != nil {
		close(q.drained)
		q.drained = nil
	}
}

// wakeUp makes the poller look at the queue's state again. It is called with q.mu held.
func (q *queue) wakeUp() {
	if q.poller != nil {
		signal(q.poller.wake)
	}
}

func (q *queue) enable(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enabled = on
	q.wakeUp()
}

// halt lets the poller take nothing more.
func (q *queue) halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.poller != nil && !q.poller.stopped {
		q.poller.stopped = true
		close(q.poller.stop)
		q.wakeUp()
	}
}

// stop halts the queue and waits until its requests are done. What takes long is interrupted; what does not heed
// that by the deadline loses its ring, and an error says so.
func (q *queue) stop(deadline time.Time) error {
	q.halt()
	q.mu.Lock()
	p := q.poller
	q.mu.Unlock()
	if p != nil && !q.await(p.done, deadline) || !q.await(q.idle(), deadline) {
		return q.abandon()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release()
	return nil
}

// idle returns a channel that is closed when the queue has no request. The poller has to be done.
func (q *queue) idle() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	idle := make(chan struct{})
	if len(q.active) == 0 {
		close(idle)
	} else {
		q.drained = idle
	}
	return idle
}

// await waits for done, interrupting the queue's requests after a while; false means that the deadline passed.
func (q *queue) await(done <-chan struct{}, deadline time.Time) bool {
	select {
	case <-done: // however late it is
		return true
	default:
	}
	expired := time.NewTimer(time.Until(deadline))
	defer expired.Stop()
	again := time.NewTicker(interruptAfter)
	defer again.Stop()
	for {
		select {
		case <-done:
			return true
		case <-expired.C:
			return false
		case <-again.C:
			q.interrupt()
		}
	}
}

// interrupt cancels the requests that are being answered.
func (q *queue) interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.active {
		interrupt(r.server, r.unique())
	}
}

func (q *queue) abandon() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.active)
	q.generation++
	q.drained = nil
	q.release()
	return fmt.Errorf("queue %d: %d requests do not end: %w", q.index, n, os.ErrDeadlineExceeded)
}

// release forgets the poller and what it ran on. It is called with q.mu held.
func (q *queue) release() {
	closeFD(&q.kick)
	q.kickless, q.placed = false, false
	if q.poller == nil {
		return
	}
	q.poller = nil
	q.memory.release()
	q.memory = nil
}

// close releases everything; the queue has to be stopped.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	closeFD(&q.kick)
	closeFD(&q.call)
	closeFD(&q.errFD)
}

// eventOne is what to write to an eventfd; its 8 bytes are in the machine's order, little-endian on all we run on.
var eventOne = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// signal adds to the eventfd. One that is full is read soon, and one that is closed concerns nobody.
func signal(fd int) {
	if fd >= 0 {
		unix.Write(fd, eventOne)
	}
}

func closeFD(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
	}
	*fd = -1
}
