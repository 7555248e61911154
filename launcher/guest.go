package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// IO is what the command's streams are connected to. With TTY, Stdin is a terminal, and standard error goes to Stdout like standard output.
type IO struct {
	Stdin          *os.File
	Stdout, Stderr *os.File
	TTY            bool
}

// A guest is the host's end of the control port: it sends the boot message and carries the command's streams.
type guest struct {
	conn  *wire.Conn
	stdin *wire.StdinSender
	io    IO
	up    chan struct{} // closed once the boot message is sent

	input sync.WaitGroup
	quit  *os.File // closing it ends the reading of standard input
	poll  *os.File // readable when quit is closed
}

func newGuest(conn *wire.Conn, streams IO) (*guest, error) {
	poll, quit, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	return &guest{conn: conn, stdin: wire.NewStdinSender(conn), io: streams, up: make(chan struct{}), poll: poll, quit: quit}, nil
}

// close ends the conversation. Nobody reads standard input any more when it returns.
func (g *guest) close() {
	g.conn.Close()
	g.stdin.Close()
	g.quit.Close()
	g.input.Wait()
	g.poll.Close()
}

func (g *guest) isUp() bool {
	select {
	case <-g.up:
		return true
	default:
		return false
	}
}

// converse talks to the guest until it says how the command ended. onUp is called when the guest is there, before its boot message is sent. The error
// is io.EOF when the guest ended without a word.
func (g *guest) converse(boot *wire.Boot, onUp func() error) (wire.Exit, error) {
	out := output{g: g, file: g.io.Stdout}
	errOut := output{g: g, file: g.io.Stderr}
	for {
		t, payload, err := g.conn.ReadFrame()
		if err != nil {
			return wire.Exit{}, err
		}
		switch t {
		case wire.TypeReady:
			err = g.boot(boot, onUp)
		case wire.TypeStdout:
			out.write(payload)
		case wire.TypeStderr:
			errOut.write(payload)
		case wire.TypeClose:
			g.stdin.Close()
		case wire.TypeCredit:
			err = g.stdin.Credit(payload)
		case wire.TypeExit:
			g.stdin.Close()
			exit, err := wire.ParseExit(payload)
			if err != nil {
				return wire.Exit{}, err
			}
			_ = g.conn.WriteFrame(wire.TypeExit, nil) // a guest that is gone already needs no answer
			return exit, nil
		default:
			err = fmt.Errorf("%w: %v from the guest", wire.ErrFormat, t)
		}
		if err != nil {
			return wire.Exit{}, err
		}
	}
}

func (g *guest) boot(boot *wire.Boot, onUp func() error) error {
	if g.isUp() {
		return fmt.Errorf("%w: a second ready", wire.ErrFormat)
	}
	if err := onUp(); err != nil {
		return err
	}
	if err := g.conn.WriteBoot(boot); err != nil {
		return err
	}
	close(g.up)
	g.input.Go(func() {
		// What goes wrong here the reading side sees too: the guest is gone, or wants no more. A standard input that cannot be read ends.
		err := g.stdin.Copy(&interruptible{file: g.io.Stdin, quit: g.poll})
		if err != nil && !errors.Is(err, wire.ErrStdinClosed) {
			_ = g.conn.WriteFrame(wire.TypeClose, nil)
		}
	})
	return nil
}

// signal sends sig to the command.
func (g *guest) signal(sig unix.Signal) { _ = g.conn.WriteSignal(int(sig)) }

// resize tells the guest the size of the user's terminal.
func (g *guest) resize() {
	if rows, cols := windowSize(g.io.Stdin); rows > 0 && g.isUp() {
		_ = g.conn.WriteWinsize(rows, cols)
	}
}

// An output is one of the user's streams. When its reader is gone, the command is told as it would be on the host: by SIGPIPE.
type output struct {
	g    *guest
	file *os.File
	gone bool
}

func (o *output) write(p []byte) {
	if o.gone || o.file == nil {
		return
	}
	if _, err := o.file.Write(p); err != nil {
		o.gone = true
		o.g.signal(unix.SIGPIPE)
	}
}

// An interruptible reader waits for its file without reading it, so that a read can be given up and no byte is taken from whoever reads next.
type interruptible struct {
	file *os.File
	quit *os.File
}

func (r *interruptible) Read(p []byte) (int, error) {
	if r.file == nil {
		return 0, io.EOF
	}
	fds := []unix.PollFd{{Fd: int32(r.file.Fd()), Events: unix.POLLIN}, {Fd: int32(r.quit.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("poll", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		if fds[0].Revents&unix.POLLNVAL != 0 {
			return 0, os.ErrClosed
		}
		return r.file.Read(p)
	}
}
