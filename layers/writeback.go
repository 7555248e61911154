package layers

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// flushEvery is how many bytes of a layer are unpacked before the disk is asked to write them.
const flushEvery = 32 << 20

// A writeBack has the disk write what has been unpacked so far while more is: the wait at the end is for what is left. Its folder is open
// from before the first write on, since syncfs(2) tells of the errors that were since the opening, and of each once.
type writeBack struct {
	dir   *os.File
	count int64         // bytes so far
	due   chan struct{} // there is something to write
	ended chan error    // what has been written had this error, the first
	once  sync.Once     // guards err, which comes out of ended
	err   error
}

func startWriteBack(dir string) (*writeBack, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	w := &writeBack{dir: f, due: make(chan struct{}, 1), ended: make(chan error, 1)}
	go func() {
		var first error
		for range w.due {
			if err := w.sync(); first == nil {
				first = err
			}
		}
		w.ended <- first
	}()
	return w, nil
}

func (w *writeBack) sync() error {
	if err := unix.Syncfs(int(w.dir.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", w.dir.Name(), err)
	}
	return nil
}

// wrote counts n bytes more.
func (w *writeBack) wrote(n int) {
	before := w.count / flushEvery
	if w.count += int64(n); w.count/flushEvery == before {
		return
	}
	select {
	case w.due <- struct{}{}:
	default: // it is writing, and then goes on
	}
}

// finish waits until everything on the filesystem is on the disk. No wrote may follow.
func (w *writeBack) finish() error {
	if err := w.end(); err != nil {
		return err
	}
	return w.sync()
}

func (w *writeBack) end() error {
	w.once.Do(func() {
		close(w.due)
		w.err = <-w.ended
	})
	return w.err
}

func (w *writeBack) close() {
	_ = w.end()
	_ = w.dir.Close()
}

// A counted reader says how much it has read.
type counted struct {
	io.Reader
	count func(n int)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.count(n)
	return n, err
}
