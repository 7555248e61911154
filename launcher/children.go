package launcher

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A nursery starts the children that must not outlive this process. PR_SET_PDEATHSIG follows the thread that forks, not the
// process: so one thread, which lives as long as the nursery, forks all of them.
type nursery struct {
	work chan func()
	done chan struct{}
}

func newNursery() *nursery {
	n := &nursery{work: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-n.work:
				f()
			case <-n.done:
				return
			}
		}
	}()
	return n
}

// close ends the thread, and with it every child that still runs.
func (n *nursery) close() { close(n.done) }

// do calls f on the thread.
func (n *nursery) do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

// A child is a running child of this process, in a process group of its own so that the terminal's signals do not reach it. It stays one when this
// process executes another program.
type child struct {
	PID int

	wait sync.Once
	over chan struct{}
	err  error // how it ended; to be read after ended
}

func (n *nursery) start(cmd *exec.Cmd) (*child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := n.do(cmd.Start); err != nil {
		return nil, err
	}
	return childOf(cmd), nil
}

// childOf is the process of cmd, which copies nothing by itself.
func childOf(cmd *exec.Cmd) *child {
	c := &child{PID: cmd.Process.Pid}
	_ = cmd.Process.Release() // it is waited for by its number
	return c
}

// ended is closed once the child was waited for.
func (c *child) ended() <-chan struct{} {
	c.wait.Do(func() {
		c.over = make(chan struct{})
		go func() {
			c.err = waitFor(c.PID)
			close(c.over)
		}()
	})
	return c.over
}

func waitFor(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return err
}

// stop ends the child: it may end by itself within grace, then by SIGTERM within term, then it is killed. A monitor whose file
// system does not answer ignores SIGTERM.
func (c *child) stop(ctx context.Context, grace, term time.Duration) {
	if c.endsWithin(ctx, grace) {
		return
	}
	c.signal(unix.SIGTERM)
	if c.endsWithin(ctx, term) {
		return
	}
	c.signal(unix.SIGKILL)
	<-c.ended()
}

// signal reaches the whole process group: a wrapper's children too. Wait has not been answered yet when ended is open, so the number is still the child's.
func (c *child) signal(sig syscall.Signal) {
	select {
	case <-c.ended():
	default:
		_ = syscall.Kill(-c.PID, sig)
	}
}

func (c *child) endsWithin(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ended():
		return true
	case <-ctx.Done():
		return false
	case <-timer.C:
		return false
	}
}
