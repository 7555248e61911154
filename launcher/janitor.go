package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An order is one line to the janitor: what to do once the supervisor has ended, in whichever way. It is given before the thing exists.
type order struct {
	Remove  string   `json:"remove,omitempty"`  // a folder that the supervisor locks, and all beneath it
	Unmount string   `json:"unmount,omitempty"` // a FUSE mount of the supervisor's
	Forget  string   `json:"forget,omitempty"`  // the path of an earlier Unmount that is not needed any more
	Kill    *process `json:"kill,omitempty"`

	Terminal *unix.Termios `json:"terminal,omitempty"` // what the user's terminal was like before raw mode
}

// janitorTerminal is the janitor's descriptor of the terminal.
const janitorTerminal = 3

// A janitor is the child that outlives the supervisor and cleans up: there is no other way in which a run's folders are removed.
type janitor struct {
	cmd *exec.Cmd

	mu     sync.Mutex
	orders *os.File
}

// startJanitor starts the janitor of this process. Its warnings go to warnings; terminal, when not nil, is what it may be told to restore.
func startJanitor(warnings, terminal *os.File) (*janitor, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	defer read.Close()
	cmd := exec.Command(selfPath, wordJanitor)
	cmd.Args[0] = selfName
	cmd.Stdin, cmd.Stderr = read, warnings
	if terminal != nil {
		cmd.ExtraFiles = []*os.File{terminal}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	return &janitor{cmd: cmd, orders: write}, nil
}

func (j *janitor) tell(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("tell janitor: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.orders.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("tell janitor: %w", err)
	}
	return nil
}

// finish lets the janitor carry out its orders and waits for it. The locks of what it is to remove have to be given up before.
func (j *janitor) finish() error {
	j.mu.Lock()
	j.orders.Close()
	j.mu.Unlock()
	if err := j.cmd.Wait(); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// MainJanitor is the body of the hidden command __janitor: it reads orders from standard input until its end.
func MainJanitor() {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	parent, _ := findProcess(os.Getppid())
	if err := cleanUp(readOrders(os.Stdin), parent); err != nil {
		fmt.Fprintf(os.Stderr, "mica: clean up: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// readOrders reads to the end. A supervisor that was killed may have left half a line: it never began what that was about.
func readOrders(r io.Reader) []order {
	var orders []order
	for decoder := json.NewDecoder(r); ; {
		var o order
		if decoder.Decode(&o) != nil {
			return orders
		}
		orders = append(orders, o)
	}
}

// cleanUp carries out the orders of supervisor: processes, then mounts, then folders.
func cleanUp(orders []order, supervisor process) error {
	var errs []error
	mounted := map[string]bool{}
	for _, o := range orders {
		switch {
		case o.Terminal != nil:
			// Not an error: the terminal may have gone with the supervisor.
			_ = unix.IoctlSetTermios(janitorTerminal, unix.TCSETS, o.Terminal)
		case o.Kill != nil:
			errs = append(errs, killAndWait(*o.Kill))
		case o.Unmount != "":
			mounted[o.Unmount] = true
		case o.Forget != "":
			delete(mounted, o.Forget)
		}
	}
	for path := range mounted {
		errs = append(errs, unmountDead(path))
	}
	for _, o := range orders {
		if o.Remove != "" {
			errs = append(errs, removeOwn(o.Remove, supervisor))
		}
	}
	return errors.Join(errs...)
}

// cleanUpPoll is how often the janitor looks whether what it waits for is so.
const cleanUpPoll = 5 * time.Millisecond

func killAndWait(p process) error {
	if err := p.kill(unix.SIGKILL); err != nil {
		return err
	}
	for deadline := time.Now().Add(cleanUpWait / 2); p.alive(); time.Sleep(cleanUpPoll) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", p.PID)
		}
	}
	return nil
}

// removeOwn removes a folder of the supervisor's, unless a later run has it already. A supervisor that is being killed may hold its
// lock for a moment after the pipe has ended.
func removeOwn(path string, supervisor process) error {
	for deadline := time.Now().Add(cleanUpWait / 2); ; time.Sleep(cleanUpPoll) {
		folder, err := lockExisting(path)
		switch {
		case err == nil:
			return folder.remove()
		case errors.Is(err, os.ErrNotExist):
			return nil
		case !errors.Is(err, errLocked):
			return err
		}
		if s, err := readState(path); err == nil && s.Process != supervisor {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}
