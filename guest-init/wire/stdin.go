package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// StdinWindow is how many bytes of standard input may be on their way, unacknowledged.
const StdinWindow = 256 << 10

// ErrStdinClosed is what StdinSender.Copy returns once nobody reads standard input any more.
var ErrStdinClosed = errors.New("standard input is closed")

// A StdinSender is the host's end of standard input: it keeps within the window.
type StdinSender struct {
	conn *Conn

	mu     sync.Mutex
	change sync.Cond
	free   int
	closed bool
}

// NewStdinSender returns a sender with a whole window. Credit and Close are for whoever reads conn's frames.
func NewStdinSender(conn *Conn) *StdinSender {
	s := &StdinSender{conn: conn, free: StdinWindow}
	s.change.L = &s.mu
	return s
}

// Credit takes the payload of a Credit frame. It is an error when the guest acknowledges more than it was sent.
func (s *StdinSender) Credit(payload []byte) error {
	n, err := ParseCredit(payload)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free+n > StdinWindow {
		return fmt.Errorf("%w: credit: %d bytes that were never sent", ErrFormat, s.free+n-StdinWindow)
	}
	s.free += n
	s.change.Signal()
	return nil
}

// Close ends Copy, at the latest when its reader returns: for a Close or Exit frame of the guest, and at the end.
func (s *StdinSender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.change.Broadcast()
}

// Copy sends all that r has, then Close. It returns nil when r ended, ErrStdinClosed when the guest wants no more, or the error
// of r or the Conn.
func (s *StdinSender) Copy(r io.Reader) error {
	buf := make([]byte, MaxPayload)
	for {
		n, err := r.Read(buf)
		if sent := s.send(buf[:n]); sent != nil {
			return sent
		}
		if err == io.EOF {
			return s.conn.WriteFrame(TypeClose, nil)
		}
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
}

func (s *StdinSender) send(p []byte) error {
	for len(p) > 0 {
		n, err := s.take(len(p))
		if err != nil {
			return err
		}
		if err := s.conn.WriteFrame(TypeStdin, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// take waits until at least one byte may be sent, and takes at most n of what may.
func (s *StdinSender) take(n int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.free == 0 && !s.closed {
		s.change.Wait()
	}
	if s.closed {
		return 0, ErrStdinClosed
	}
	n = min(n, s.free)
	s.free -= n
	return n, nil
}
