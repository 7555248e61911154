package main

import (
	"fmt"
	"sync"

	"github.com/micavm/mica/guest-init/wire"
)

// An inbox holds standard input on its way to the command, at most a window of it.
type inbox struct {
	mu     sync.Mutex
	change sync.Cond
	bytes  []byte
	ended  bool // nothing more comes
	closed bool // nobody takes any more
}

func newInbox() *inbox {
	b := new(inbox)
	b.change.L = &b.mu
	return b
}

// put adds a copy of p. It never waits: the host keeps to the window.
func (b *inbox) put(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	if len(b.bytes)+len(p) > wire.StdinWindow {
		return fmt.Errorf("standard input: more than a window of %d bytes", wire.StdinWindow)
	}
	b.bytes = append(b.bytes, p...)
	b.change.Signal()
	return nil
}

// end says that all has been put.
func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.change.Signal()
}

// close drops what is in the inbox and what comes.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.bytes = true, nil
	b.change.Signal()
}

// take waits for bytes, and moves as many as fit to p. It returns 0 at the end.
func (b *inbox) take(p []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.bytes) == 0 && !b.ended && !b.closed {
		b.change.Wait()
	}
	n := copy(p, b.bytes)
	b.bytes = b.bytes[:copy(b.bytes, b.bytes[n:])]
	return n
}
