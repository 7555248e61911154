package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// A session is one command and the host that looks on.
type session struct {
	sys   system
	conn  *wire.Conn
	stdin *inbox

	streams sync.WaitGroup // what copies between conn and the command
	read    chan struct{}  // closed when the host has read the Exit frame

	mu         sync.Mutex // guards what receive has for a command that may not be there yet
	pid        int        // of the command, and its process group's; 0 before it is started
	signals    []unix.Signal
	terminal   *os.File
	rows, cols uint16
}

func newSession(sys system, conn *wire.Conn) *session {
	return &session{sys: sys, conn: conn, stdin: newInbox(), read: make(chan struct{})}
}

// run starts the command of boot, and returns how it ended, after all its output is sent and all other processes have ended.
func (s *session) run(boot *wire.Boot) (wire.Exit, error) {
	u, err := lookupUser(boot.User, "/etc/passwd", "/etc/group")
	if err != nil {
		return wire.Exit{}, err
	}
	std, err := openStdio(boot, u)
	if err != nil {
		return wire.Exit{}, err
	}
	pid, err := start(boot, u, std)
	std.closeChild()
	if err != nil {
		return wire.Exit{}, err
	}
	s.started(pid, std.terminal)
	for t, f := range std.outputs {
		s.stream(func() { s.send(t, f) })
	}
	s.stream(func() { s.feed(std) })

	children := reap(pid)
	status := <-children.main
	ended := children.end(s.sys)
	s.stdin.close()
	if !ended { // a process that even SIGKILL does not end keeps the streams open
		for _, f := range std.outputs {
			f.SetReadDeadline(time.Now())
		}
	}
	std.stdin.SetWriteDeadline(time.Now())
	s.streams.Wait()
	if status.Signaled() {
		return wire.Exit{Signal: int(status.Signal())}, nil
	}
	return wire.Exit{Code: status.ExitStatus()}, nil
}

// stream runs f beside the command.
func (s *session) stream(f func()) {
	s.streams.Go(func() { guard(s.sys, f) })
}

// start starts the command of boot as u. Its process is the leader of a session of its own.
func start(boot *wire.Boot, u user, std *stdio) (pid int, err error) {
	if len(boot.Args) == 0 {
		return 0, failf(statusNotFound, "no command given")
	}
	env := slices.Clone(boot.Env)
	for _, d := range [][2]string{{"PATH", defaultPath}, {"HOME", u.home}} {
		if _, ok := getenv(env, d[0]); !ok {
			env = append(env, d[0]+"="+d[1])
		}
	}
	dir := boot.Dir
	if dir == "" {
		dir = "/"
	}
	path, _ := getenv(env, "PATH")
	name, file := boot.Args[0], ""
	err = as(u, func() (err error) {
		if err := checkWorkdir(dir); err != nil {
			return err
		}
		file, err = lookCommand(name, dir, path)
		return err
	})
	if err != nil {
		return 0, err
	}
	attributes := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{uintptr(std.child[0]), uintptr(std.child[1]), uintptr(std.child[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: std.terminal != nil},
	}
	if !u.isRoot() {
		attributes.Sys.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.allGroups()}
	}
	err = withLimits(boot.Rlimits, func() error {
		pid, err = syscall.ForkExec(file, boot.Args, attributes)
		if err != nil {
			return execError(name, absolute(dir, file), err)
		}
		return nil
	})
	return pid, err
}

// send copies an output of the command to the host until its last writer is gone.
func (s *session) send(t wire.Type, f *os.File) {
	buf := make([]byte, wire.MaxPayload)
	for {
		n, err := f.Read(buf)
		if n > 0 && s.conn.WriteFrame(t, buf[:n]) != nil {
			return // receive sees that the host is gone
		}
		if err != nil { // EOF, or EIO of a terminal that nobody has open
			return
		}
	}
}

// endOfTransmission is what a terminal takes for the end of its input.
const endOfTransmission = 4

// feed copies standard input to the command, and acknowledges it.
func (s *session) feed(std *stdio) {
	buf := make([]byte, wire.MaxPayload)
	for {
		n := s.stdin.take(buf)
		if n == 0 {
			break
		}
		if _, err := std.stdin.Write(buf[:n]); err != nil {
			s.stdin.close()
			s.conn.WriteFrame(wire.TypeClose, nil)
			break
		}
		s.conn.WriteCredit(n)
	}
	if std.terminal != nil {
		std.terminal.Write([]byte{endOfTransmission})
		return
	}
	std.stdin.Close()
}

// started hands what came before the command to it.
func (s *session) started(pid int, terminal *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.terminal = pid, terminal
	if terminal != nil {
		setWinsize(terminal, s.rows, s.cols)
	}
	for _, signal := range s.signals {
		unix.Kill(-pid, signal)
	}
}

// receive handles the host's frames until it has read the Exit frame. A host that is gone, or talks nonsense, ends the guest.
func (s *session) receive() {
	for {
		t, payload, err := s.conn.ReadFrame()
		if err == nil && t == wire.TypeExit {
			close(s.read)
			return
		}
		if err == nil {
			err = s.handle(t, payload)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				complain(fmt.Errorf("control port: %w", err))
			}
			s.sys.KillAll(unix.SIGKILL)
			s.sys.Sync()
			s.sys.Reboot()
			return
		}
	}
}

func (s *session) handle(t wire.Type, payload []byte) error {
	switch t {
	case wire.TypeStdin:
		return s.stdin.put(payload)
	case wire.TypeClose:
		s.stdin.end()
	case wire.TypeSignal:
		n, err := wire.ParseSignal(payload)
		if err != nil {
			return err
		}
		s.signal(unix.Signal(n))
	case wire.TypeWinsize:
		rows, cols, err := wire.ParseWinsize(payload)
		if err != nil {
			return err
		}
		s.resize(rows, cols)
	default:
		return fmt.Errorf("%w: %v from the host", wire.ErrFormat, t)
	}
	return nil
}

// signal sends to the command's process group. What is left of it keeps the number from being used anew.
func (s *session) signal(signal unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		s.signals = append(s.signals, signal)
		return
	}
	unix.Kill(-s.pid, signal)
}

func (s *session) resize(rows, cols uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows, s.cols = rows, cols
	if s.terminal != nil {
		setWinsize(s.terminal, rows, cols)
	}
}

// end tells the host how the command ended, once nothing that was written can be lost, and waits until it has read that.
func (s *session) end(exit wire.Exit, boot *wire.Boot) error {
	s.sys.Sync()
	for _, v := range slices.Backward(boot.Volumes) {
		s.sys.Unmount(v.Path) // one that is not mounted, or busy, is synced all the same
	}
	if err := s.conn.WriteExit(exit); err != nil {
		return err
	}
	<-s.read
	return nil
}
