package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Type says what a frame's payload is.
type Type uint8

const (
	TypeReady    Type = iota + 1 // guest: the port is open; empty
	TypeBootPart                 // host: a part of the boot message that is not the last
	TypeBoot                     // host: the boot message, or its last part
	TypeStdin                    // host: standard input
	TypeStdout                   // guest: standard output, or the terminal
	TypeStderr                   // guest: standard error
	TypeClose                    // host: standard input ends; guest: nobody reads it any more; empty
	TypeCredit                   // guest: so many bytes of standard input are consumed; 4 bytes, little endian
	TypeWinsize                  // host: rows and columns of the terminal; 2 bytes each, little endian
	TypeSignal                   // host: a signal for the command's process group; 1 byte
	TypeExit                     // guest: how the command ended, in JSON; host: that is read; empty
	typeEnd
)

var typeNames = [typeEnd]string{
	TypeReady: "ready", TypeBootPart: "boot part", TypeBoot: "boot", TypeStdin: "stdin", TypeStdout: "stdout",
	TypeStderr: "stderr", TypeClose: "close", TypeCredit: "credit", TypeWinsize: "winsize", TypeSignal: "signal", TypeExit: "exit",
}

// String is the frame's name in messages.
func (t Type) String() string {
	if t < typeEnd && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// MaxPayload is the longest payload of one frame, in bytes.
const MaxPayload = 64 << 10

const headerSize = 8

// ErrFormat is wrapped by every error about bytes that are no frame, or a payload that is not of its type.
var ErrFormat = errors.New("malformed frame")

// A Conn sends and receives frames. One goroutine may read while any number write.
type Conn struct {
	stream io.ReadWriteCloser

	in      *bufio.Reader
	payload []byte

	mu  sync.Mutex // a frame leaves whole
	out []byte
}

// NewConn returns a Conn over stream, which it owns.
func NewConn(stream io.ReadWriteCloser) *Conn {
	return &Conn{
		stream:  stream,
		in:      bufio.NewReaderSize(stream, headerSize+MaxPayload),
		payload: make([]byte, MaxPayload),
		out:     make([]byte, 0, headerSize+MaxPayload),
	}
}

// ReadFrame returns the next frame. The payload is valid until the next call. The error is io.EOF when the stream ended
// between two frames, io.ErrUnexpectedEOF when it ended inside one, and wraps ErrFormat for what is no frame.
func (c *Conn) ReadFrame() (Type, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return 0, nil, err
	}
	t, n := Type(header[0]), binary.LittleEndian.Uint32(header[4:])
	switch {
	case t == 0 || t >= typeEnd:
		return 0, nil, fmt.Errorf("%w: %v", ErrFormat, t)
	case header[1]|header[2]|header[3] != 0:
		return 0, nil, fmt.Errorf("%w: %v: reserved bytes are not zero", ErrFormat, t)
	case n > MaxPayload:
		return 0, nil, fmt.Errorf("%w: %v: %d bytes, at most %d", ErrFormat, t, n, MaxPayload)
	}
	if _, err := io.ReadFull(c.in, c.payload[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return t, c.payload[:n], nil
}

// WriteFrame sends one frame of at most MaxPayload bytes, in one write.
func (c *Conn) WriteFrame(t Type, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("write %v frame: %d bytes, at most %d", t, len(payload), MaxPayload)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out[:0], byte(t), 0, 0, 0)
	c.out = binary.LittleEndian.AppendUint32(c.out, uint32(len(payload)))
	c.out = append(c.out, payload...)
	if _, err := c.stream.Write(c.out); err != nil {
		return fmt.Errorf("write %v frame: %w", t, err)
	}
	return nil
}

// Close closes the stream.
func (c *Conn) Close() error { return c.stream.Close() }
