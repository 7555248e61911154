package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// A stdio is the command's standard streams: three pipes, or one pseudo-terminal.
type stdio struct {
	child    [3]int // the command's ends, in its own order
	stdin    *os.File
	outputs  map[wire.Type]*os.File
	terminal *os.File // nil for pipes
}

// closeChild closes the command's ends, once it has its own.
func (s *stdio) closeChild() {
	for i, fd := range s.child {
		if i == 0 || fd != s.child[0] {
			unix.Close(fd)
		}
	}
}

// openStdio gives the streams to u, who can then open /dev/stdout and its like anew.
func openStdio(boot *wire.Boot, u user) (*stdio, error) {
	if boot.TTY {
		return openTerminal(boot.Rows, boot.Cols, u)
	}
	s := &stdio{outputs: map[wire.Type]*os.File{}}
	for i, t := range []wire.Type{wire.TypeStdin, wire.TypeStdout, wire.TypeStderr} {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("open pipe: %w", err)
		}
		if err := unix.Fchown(fds[0], int(u.uid), int(u.gid)); err != nil { // both ends are one inode
			return nil, fmt.Errorf("give pipe to uid %d: %w", u.uid, err)
		}
		child, own := fds[1], fds[0]
		if t == wire.TypeStdin {
			child, own = own, child
		}
		s.child[i] = child
		f, err := pollable(own, t.String())
		if err != nil {
			return nil, err
		}
		if t == wire.TypeStdin {
			s.stdin = f
		} else {
			s.outputs[t] = f
		}
	}
	return s, nil
}

// groupTTY owns terminals, by the custom of all distributions.
const groupTTY = 5

func openTerminal(rows, cols uint16, u user) (*stdio, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: /dev/ptmx: %w", err)
	}
	f, err := pollable(master, "/dev/ptmx")
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("find terminal: %w", err)
	}
	path := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %s: %w", path, err)
	}
	if !u.isRoot() {
		if err := unix.Fchown(slave, int(u.uid), groupTTY); err != nil {
			return nil, fmt.Errorf("give terminal to uid %d: %w", u.uid, err)
		}
	}
	s := &stdio{
		child:    [3]int{slave, slave, slave},
		stdin:    f,
		outputs:  map[wire.Type]*os.File{wire.TypeStdout: f},
		terminal: f,
	}
	setWinsize(f, rows, cols)
	return s, nil
}

// setWinsize does nothing about a terminal that is gone.
func setWinsize(terminal *os.File, rows, cols uint16) {
	if rows == 0 || cols == 0 {
		return
	}
	raw, err := terminal.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// pollable makes a file with deadlines of a descriptor of ours. The command's ends stay blocking: programs expect it.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set %s non-blocking: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
