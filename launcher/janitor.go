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

	// These are carried out at once, because the supervisor is confined and the janitor is not.
	Follow string `json:"follow,omitempty"` // a configuration, whose versions are written to standard output
	Detach string `json:"detach,omitempty"` // a FUSE mount of mica's, in use or not

	// Seal ends what would give a supervisor that a guest has taken over more than it has itself: Remove, Kill and Follow.
	Seal bool `json:"seal,omitempty"`
}

// sealed is what of the order may be asked after a Seal.
func (o order) sealed() order {
	return order{Unmount: o.Unmount, Forget: o.Forget, Terminal: o.Terminal, Detach: o.Detach}
}

// janitorTerminal is the janitor's descriptor of the terminal.
const janitorTerminal = 3

// A janitor is the child that outlives the supervisor and cleans up: there is no other way in which a run's folders are removed. It is not
// confined, and does for a supervisor that is what this one cannot.
type janitor struct {
	Process *child
	Orders  kept
	Words   kept // what it follows, a configVersion each

	mu sync.Mutex
}

// startJanitor starts the janitor of this process. Its warnings go to warnings; terminal, when not nil, is what it may be told to restore.
func startJanitor(warnings, terminal *os.File) (*janitor, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	defer read.Close()
	words, said, err := os.Pipe()
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	defer said.Close()
	cmd := exec.Command(selfPath, wordJanitor)
	cmd.Args[0] = selfName
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, said, warnings
	if terminal != nil {
		cmd.ExtraFiles = []*os.File{terminal}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		words.Close()
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	return &janitor{Process: childOf(cmd), Orders: kept{write}, Words: kept{words}}, nil
}

func (j *janitor) tell(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("tell janitor: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.Orders.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("tell janitor: %w", err)
	}
	return nil
}

// finish lets the janitor carry out its orders and waits for it. The locks of what it is to remove have to be given up before.
func (j *janitor) finish() error {
	j.mu.Lock()
	j.Orders.Close()
	j.mu.Unlock()
	<-j.Process.ended()
	j.Words.Close()
	if j.Process.err != nil {
		return fmt.Errorf("clean up: %w", j.Process.err)
	}
	return nil
}

// MainJanitor is the body of the hidden command __janitor: it reads orders from standard input until its end.
func MainJanitor() {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	parent, _ := findProcess(os.Getppid())
	orders, failed := takeOrders(os.Stdin)
	if err := errors.Join(failed, cleanUp(orders, parent)); err != nil {
		fmt.Fprintf(os.Stderr, "mica: clean up: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// takeOrders reads to the end, and gives the orders for then. A supervisor that was killed may have left half a line: it never began what
// that was about. The error is of those that were carried out at once.
func takeOrders(r io.Reader) (later []order, err error) {
	sealed := false
	for decoder := json.NewDecoder(r); ; {
		var o order
		if decoder.Decode(&o) != nil {
			return later, err
		}
		if sealed {
			o = o.sealed()
		}
		sealed = sealed || o.Seal
		switch {
		case o.Follow != "":
			go followConfig(o.Follow, os.Stdout)
		case o.Detach != "":
			err = errors.Join(err, detachMount(o.Detach))
		default:
			later = append(later, o)
		}
	}
}

// detachMount unmounts what is mica's, and nothing else.
func detachMount(path string) error {
	if source, err := sourceOf(path); source == "" {
		return err
	}
	return unmount(path)
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
