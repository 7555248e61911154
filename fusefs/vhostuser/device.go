package vhostuser

import (
	"errors"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// maxWaiting is how many requests may wait for a lock at once. They wait for other requests, so they must not keep
// a worker from those.
const maxWaiting = 256

// device is one vhost-user-fs device: its queues, its memory and the workers that answer what takes time.
type device struct {
	session *session
	tag     string
	log     func(format string, args ...any)
	queues  []*queue // 0 is the high-priority queue

	// Of the goroutine that reads the protocol.
	features, protocol uint64
	memory             *memory

	requests chan *request
	waiting  chan struct{} // one element for each request that waits for a lock
	done     chan struct{}
	workers  sync.WaitGroup
}

func newDevice(s *session, o Options) *device {
	d := &device{
		session:  s,
		tag:      o.Tag,
		log:      o.Log,
		memory:   newMemory(nil),
		requests: make(chan *request, maxRingSize),
		waiting:  make(chan struct{}, maxWaiting),
		done:     make(chan struct{}),
	}
	for i := range o.Queues + 1 {
		d.queues = append(d.queues, newQueue(d, i))
	}
	for range o.Workers {
		d.workers.Go(d.work)
	}
	return d
}

// setMemory makes m, which the caller hands over, the memory of all queues.
func (d *device) setMemory(m *memory) error {
	old := d.memory
	d.memory = m
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.move(m))
	}
	old.release()
	return errors.Join(errs...)
}

// dispatch answers r here if it is quick, else lets somebody else do it. So FORGET and INTERRUPT, which are quick, come after what they are about.
func (d *device) dispatch(r *request, b *scratch) {
	switch {
	case r.quick():
		r.queue.serve(r, b)
	case r.opcode() == opSetlkw:
		d.wait(r, b)
	default:
		select {
		case d.requests <- r:
		case <-d.done:
			r.queue.serve(r, b)
		}
	}
}

// wait answers a request that waits for a lock in a goroutine of its own.
func (d *device) wait(r *request, b *scratch) {
	select {
	case d.waiting <- struct{}{}:
	default:
		r.refused = syscall.ENOLCK
		r.queue.serve(r, b)
		return
	}
	d.workers.Go(func() {
		debug.SetPanicOnFault(true)
		r.queue.serve(r, &scratch{})
		<-d.waiting
	})
}

func (d *device) work() {
	debug.SetPanicOnFault(true)
	var b scratch
	for {
		select {
		case r := <-d.requests:
			r.queue.serve(r, &b)
		case <-d.done:
			return
		}
	}
}

// answer serves r and returns the bytes written for the guest; an error means that its memory is gone.
func (d *device) answer(r *request, b *scratch) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = 0, panicError(p)
		}
	}()
	return d.session.answer(r, b), nil
}

// close stops everything. An error says what would not end.
func (d *device) close() error {
	deadline := time.Now().Add(drainTimeout)
	for _, q := range d.queues {
		q.halt()
	}
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.stop(deadline))
		q.close()
	}
	close(d.done)
	d.memory.release()
	err := errors.Join(errs...)
	if err == nil {
		d.workers.Wait()
	}
	return err
}
