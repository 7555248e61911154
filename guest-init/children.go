package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// How long processes that outlive the command may take to end.
const (
	termWait = 2 * time.Second
	killWait = 5 * time.Second
)

// children are all processes of the guest, seen from PID 1.
type children struct {
	main chan unix.WaitStatus // how the command ended
	none chan struct{}        // closed when there is no other left
}

// reap waits for all children, the orphans that PID 1 is given among them. It starts after the command, the only child that
// guest-init itself starts: so nothing else waits.
func reap(command int) *children {
	c := &children{main: make(chan unix.WaitStatus, 1), none: make(chan struct{})}
	go func() {
		defer close(c.none)
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, 0, nil)
			switch {
			case err == unix.EINTR:
			case err != nil: // ECHILD: it was the last
				return
			case pid == command:
				c.main <- status
			}
		}
	}()
	return c
}

// end ends all that outlive the command, and says whether they did.
func (c *children) end(sys system) bool {
	select {
	case <-c.none:
		return true
	case <-time.After(time.Millisecond): // the reaper may just be on its way
	}
	sys.KillAll(unix.SIGTERM)
	sys.KillAll(unix.SIGCONT)
	if c.gone(termWait) {
		return true
	}
	sys.KillAll(unix.SIGKILL)
	return c.gone(killWait)
}

func (c *children) gone(wait time.Duration) bool {
	select {
	case <-c.none:
		return true
	case <-time.After(wait):
		return false
	}
}
