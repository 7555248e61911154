package relay

import (
	"sync"
	"time"
)

// after is how long an answer may take before another goroutine takes the requests that come after it.
const after = 5 * time.Millisecond

// A Relay is the goroutines that take requests out of one place. The one that takes answers what it has taken itself, so that no other is
// woken for a client that asks one thing after the other. Before it answers it calls Pass, or Another, and then Resume, which is false when
// another goroutine has taken over: then it ends. Whoever ends calls Leave; who does so while it takes leaves nobody to take over.
type Relay struct {
	run func() // the body of a goroutine, which takes

	mu         sync.Mutex
	taking     bool // a goroutine takes, or did so to its end
	goroutines int  // that take or answer

	// relief has another goroutine take when the one that did is at a request for long: a disk, or a lock.
	relief *time.Timer
	armed  bool
	taken  uint64 // requests that were answered by whoever took them
	seen   uint64 // taken when relief was armed
}

// New gives a relay without a goroutine.
func New(run func()) *Relay {
	r := &Relay{run: run}
	r.relief = time.AfterFunc(time.Hour, r.relieve)
	return r
}

// Another has one more goroutine take: the first one, or at once one in the place of the caller, who does so no more.
func (r *Relay) Another() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.another()
}

// another is Another for those who hold mu.
func (r *Relay) another() {
	r.taking = true
	r.goroutines++
	go r.run()
}

// Pass lets go of the taking while a request is answered: to whom it may concern.
func (r *Relay) Pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taking = false
	r.taken++
	if !r.armed {
		r.armed, r.seen = true, r.taken
		r.relief.Reset(after)
	}
}

// Resume takes up the taking again; it is false when another goroutine has it.
func (r *Relay) Resume() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taking {
		return false
	}
	r.taking = true
	return true
}

func (r *Relay) relieve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.taking:
		r.armed = false
	case r.seen != r.taken:
		r.seen = r.taken
		r.relief.Reset(after)
	default:
		r.armed = false
		r.another()
	}
}

// Goroutines is how many take or answer.
func (r *Relay) Goroutines() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.goroutines
}

// Leave ends a goroutine, and reports whether it was the last.
func (r *Relay) Leave() (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.goroutines--; r.goroutines == 0 {
		r.relief.Stop()
	}
	return r.goroutines == 0
}
