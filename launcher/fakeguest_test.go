package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
	"github.com/micavm/mica/launcher/vmm"
)

// A fakeVMM has a process in place of a machine: it meets the control port's protocol and runs the command as its own child.
type fakeVMM struct{}

const wordFakeGuest = "fake-guest"

func (fakeVMM) Name() string { return "fake" }

func (fakeVMM) Command(_ context.Context, m vmm.Machine) (*vmm.Command, error) {
	self, err := os.Executable()
	return &vmm.Command{Path: self, Args: []string{self, wordFakeGuest}, Files: []*os.File{m.Control, m.Console}}, err
}

// fakeGuest is the body of that process. The command "crash" makes it end as a guest whose kernel has panicked does.
func fakeGuest() {
	console := os.NewFile(4, "console")
	if err := serveFakeGuest(os.NewFile(3, "control"), console); err != nil {
		fmt.Fprintln(console, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveFakeGuest(control, console *os.File) error {
	conn := wire.NewConn(control)
	if err := conn.WriteFrame(wire.TypeReady, nil); err != nil {
		return err
	}
	boot, err := conn.ReadBoot()
	if err != nil {
		return err
	}
	fmt.Fprintf(console, "console=hvc0\r\nboot of %s\r\n", boot.Args[0])
	switch boot.Args[0] {
	case "crash":
		return errors.New("Kernel panic - not syncing: VFS: Unable to mount root fs")
	case "terminal":
		fmt.Fprintf(console, "%v", boot.TTY)
		return fakeTerminal(conn, boot)
	case "nowhere":
		return fakeExit(conn, wire.Exit{Code: 127, Error: "nowhere: not found"})
	}
	return fakeCommand(conn, boot)
}

func fakeExit(conn *wire.Conn, exit wire.Exit) error {
	if err := conn.WriteExit(exit); err != nil {
		return err
	}
	for {
		if t, _, err := conn.ReadFrame(); err != nil || t == wire.TypeExit {
			return err
		}
	}
}

// fakeTerminal writes the size of its terminal, at first and whenever it changes, until it reads a line feed.
func fakeTerminal(conn *wire.Conn, boot *wire.Boot) error {
	rows, cols := boot.Rows, boot.Cols
	for {
		if err := conn.WriteFrame(wire.TypeStdout, fmt.Appendf(nil, "%v %dx%d\r\n", boot.TTY, rows, cols)); err != nil {
			return err
		}
		t, p, err := conn.ReadFrame()
		if err != nil {
			return err
		}
		switch t {
		case wire.TypeWinsize:
			if rows, cols, err = wire.ParseWinsize(p); err != nil {
				return err
			}
		case wire.TypeStdin:
			return fakeExit(conn, wire.Exit{Code: int(p[0])})
		}
	}
}

func fakeCommand(conn *wire.Conn, boot *wire.Boot) error {
	cmd := exec.Command(boot.Args[0], boot.Args[1:]...)
	cmd.Env, cmd.Dir = boot.Env, boot.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var outputs sync.WaitGroup
	outputs.Go(func() { fakeOutput(conn, wire.TypeStdout, stdout) })
	outputs.Go(func() { fakeOutput(conn, wire.TypeStderr, stderr) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		fakeInput(conn, stdin, cmd.Process.Pid)
	}()
	outputs.Wait()
	_ = cmd.Wait()
	var exit wire.Exit
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		exit.Signal = int(status.Signal())
	} else {
		exit.Code = status.ExitStatus()
	}
	if err := conn.WriteExit(exit); err != nil {
		return err
	}
	<-done
	return nil
}

func fakeOutput(conn *wire.Conn, t wire.Type, r io.Reader) {
	p := make([]byte, wire.MaxPayload)
	for {
		n, err := r.Read(p)
		if n > 0 {
			_ = conn.WriteFrame(t, p[:n])
		}
		if err != nil {
			return
		}
	}
}

// fakeInput handles the host's frames until it has read the exit.
func fakeInput(conn *wire.Conn, stdin io.WriteCloser, pid int) {
	for {
		t, p, err := conn.ReadFrame()
		if err != nil || t == wire.TypeExit {
			return
		}
		switch t {
		case wire.TypeStdin:
			_, _ = stdin.Write(p)
			_ = conn.WriteCredit(len(p))
		case wire.TypeClose:
			_ = stdin.Close()
		case wire.TypeSignal:
			n, _ := wire.ParseSignal(p)
			_ = syscall.Kill(-pid, unix.Signal(n))
		}
	}
}
