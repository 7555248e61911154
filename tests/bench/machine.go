package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/vmm"
)

// A machine is a guest that runs.
type machine struct {
	control *os.File // the host's end of the port
	console *os.File
	child   *exec.Cmd
	words   bytes.Buffer // of the monitor
}

// startMachine starts m, whose control port and console it makes.
func startMachine(ctx context.Context, monitor vmm.VMM, m vmm.Machine) (*machine, error) {
	control, controlOfGuest, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer controlOfGuest.Close()
	console, consoleOfGuest, err := socketPair()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer consoleOfGuest.Close()
	started := &machine{control: control, console: console}
	m.Control, m.Console = controlOfGuest, consoleOfGuest
	if err := started.start(ctx, monitor, m); err != nil {
		return nil, errors.Join(err, control.Close(), console.Close())
	}
	go func() { _, _ = io.Copy(io.Discard, console) }()
	return started, nil
}

func (s *machine) start(ctx context.Context, monitor vmm.VMM, m vmm.Machine) error {
	asked, err := monitor.Command(ctx, m)
	if err != nil {
		return err
	}
	s.child = exec.CommandContext(ctx, asked.Path)
	s.child.Args, s.child.Env, s.child.ExtraFiles, s.child.Stdin = asked.Args, asked.Env, asked.Files, bytes.NewReader(asked.Stdin)
	s.child.Stdout, s.child.Stderr = &s.words, &s.words
	return s.child.Start()
}

// wait returns when the guest has powered off.
func (s *machine) wait() error {
	defer s.control.Close()
	defer s.console.Close()
	if err := s.child.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", s.child.Path, err, s.words.Bytes())
	}
	return nil
}

func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "host's end"), os.NewFile(uintptr(pair[1]), "guest's end"), nil
}
