package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// readyVariable is set for a detached mica, which says on readyDescriptor that it is ready.
const (
	readyVariable   = "MICA_DETACHED"
	readyDescriptor = 3
)

// startDetached executes this command line again in a session of its own, and returns when that process is ready or has failed. Until
// then it speaks on our standard error.
func startDetached(a *app) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = a.stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), readyVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	if n, _ := io.ReadFull(r, make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return status(exit.ExitCode()) // it has said why
	}
	return errors.New("the process in the background ended before it was ready")
}

// isDetached says whether this process was started by startDetached, which waits for announceReady.
func isDetached() bool { return os.Getenv(readyVariable) != "" }

// announceReady tells the waiting process, and lets go of the streams that were shared with it.
func announceReady() {
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for stream := range 3 {
			_ = syscall.Dup3(int(null.Fd()), stream, 0)
		}
		null.Close()
	}
	w := os.NewFile(readyDescriptor, "ready")
	_, _ = w.Write([]byte{1}) // who waited may be gone
	w.Close()
}
