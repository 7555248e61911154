package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// A Status is the exit status of the command in the guest: 128+n when signal n ended it.
type Status int

// StatusFailed is the status of a run that mica itself could not carry out.
const StatusFailed Status = 125

const (
	powerOffWait = 5 * time.Second // for a guest to power off once its command has ended
	termWait     = 2 * time.Second // for a monitor to heed SIGTERM
)

// Run carries the plan out, and returns how the command ended. Words of mica's own go to standard error of streams. When ctx ends, the guest is
// ended. Where the kernel has Landlock, Run does not return once all is prepared: this process executes itself, confined, and Supervise goes on.
func Run(ctx context.Context, p *Plan, streams IO) (Status, error) {
	return newRun(p, streams).execute(ctx)
}

func newRun(p *Plan, streams IO) *run {
	r := &run{prepared: prepared{Plan: p}, streams: streams, onUp: func() {}, stop: make(chan struct{})}
	r.choose, r.divide = r.choosePlatform, r.confine
	return r
}

// execute is both halves, what divides them between.
func (r *run) execute(ctx context.Context) (Status, error) {
	err := r.untilSignal(ctx, r.prepare)
	if err == nil {
		err = r.divide()
	}
	if err != nil {
		return r.end(StatusFailed, err)
	}
	return r.supervise(ctx)
}

// supervise is the second half of a run: it serves the guest until its end.
func (r *run) supervise(ctx context.Context) (Status, error) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	signals := catchSignals()
	defer signal.Stop(signals)
	r.background.Go(func() { r.heedSignals(ctx, signals) })

	status, err := r.carryOut(ctx)
	r.cancel(nil)
	r.background.Wait()
	return r.end(status, err)
}

// end leaves nothing of the run, and gives what is to be said of it.
func (r *run) end(status Status, err error) (Status, error) {
	if left := r.cleanUp(); left != nil {
		r.say("warning: %v", left) // the command's status is what counts
	}
	var stopped *stopped
	if errors.As(err, &stopped) {
		r.complain("%v", stopped)
		status, err = Status(128+int(stopped.signal)), nil
	}
	if r.Detached != nil {
		r.Detached.end(r.streams, err)
	}
	return status, err
}

// A run is one sandbox from its plan to its end. Whatever it makes it notes here as soon as it is there, so that cleanUp finds it on every way out.
type run struct {
	prepared
	streams IO
	choose  func(context.Context) (platform, error)
	divide  func() error // between the halves
	onUp    func()       // called once the guest is there
	cancel  context.CancelCauseFunc

	background sync.WaitGroup // what ends with the context
	stop       chan struct{}  // closed when the sandbox is asked to stop
	stopOnce   sync.Once

	nursery *nursery // of the first half
	shares  []share
	control *controlServer
	fronts  *frontEnds
	logs    []*boundedLog
	console *boundedLog    // the guest's, one of logs
	vmmLog  *boundedLog    // what the monitor says, one of logs
	words   sync.WaitGroup // until both have all of it

	terminal *terminal

	mu    sync.Mutex
	guest *guest
}

// say is a line of mica's own to the user, who can ask for quiet.
func (r *run) say(format string, args ...any) {
	if !r.Plan.Quiet {
		r.complain(format, args...)
	}
}

// complain says why a run failed, quiet or not.
func (r *run) complain(format string, args ...any) {
	if r.streams.Stderr != nil {
		fmt.Fprintf(r.streams.Stderr, "mica: "+format+"\n", args...)
	}
}

// step says what was done, to those who ask for it with --debug.
func (r *run) step(format string, args ...any) {
	if r.Plan.Debug {
		r.complain("debug: "+format, args...)
	}
}

func (r *run) carryOut(ctx context.Context) (Status, error) {
	if r.Detached != nil {
		r.onUp = r.Detached.tellUp
		if err := r.Detached.keepOutput(r.Plan); err != nil {
			return StatusFailed, err
		}
	}
	if err := r.compose(ctx); err != nil {
		return StatusFailed, err
	}
	r.step("root of %d layers, and %d volumes", len(r.Plan.Image.Layers), len(r.Plan.Volumes))
	return r.boot(ctx)
}

// compose opens the file systems, and answers those who ask for them.
func (r *run) compose(ctx context.Context) (err error) {
	if r.shares, err = compose(r.Plan, r.Upper); err != nil {
		return err
	}
	root := r.shares[0].fs
	if r.control, err = startControl(r.Dir, root, r.Janitor, r.Plan.Debug, r.askToStop); err != nil {
		return err
	}
	log, err := r.openLog("mica.log")
	if err != nil {
		return err
	}
	r.background.Go(func() { follow(ctx, r.Plan, root, r.Janitor.Words, log) })
	return nil
}

func (r *run) openLog(name string) (*boundedLog, error) {
	l, err := createLog(filepath.Join(r.Home, "log", name), logLimit)
	if err == nil {
		r.logs = append(r.logs, l)
	}
	return l, err
}

// boot has the monitor start and talks to the guest until its end.
func (r *run) boot(ctx context.Context) (Status, error) {
	conn, err := r.startGuest(ctx)
	if err != nil {
		return StatusFailed, err
	}
	exit, err := r.converse(ctx, conn)
	r.terminal.restore()
	monitor := r.VMM.Process
	if err == nil {
		r.step("the command ended with status %d", exit.Status())
		monitor.stop(ctx, powerOffWait, termWait)
		if exit.Error != "" {
			r.complain("%s", exit.Error)
		}
		return Status(exit.Status()), nil
	}
	if ctx.Err() == nil {
		// Give the monitor the time to say why it ended: it may have more words than the guest.
		monitor.endsWithin(ctx, termWait)
	}
	monitor.stop(ctx, 0, termWait)
	if cause := context.Cause(ctx); cause != nil {
		return StatusFailed, cause
	}
	return StatusFailed, r.unexpected(err)
}

// startGuest makes the front ends, and has the monitor start over them. It gives the host's end of the control port.
func (r *run) startGuest(ctx context.Context) (_ io.ReadWriteCloser, err error) {
	if err := r.keepWords(); err != nil {
		return nil, err
	}
	r.fronts = &frontEnds{debug: r.Plan.Debug, log: r.vmmLog, failed: make(chan error, 1)}
	r.background.Go(func() {
		select {
		case err := <-r.fronts.failed:
			r.cancel(err)
		case <-ctx.Done():
		}
	})
	for _, daemon := range r.Daemons {
		if err := r.fronts.bringUp(daemon, r.shares); err != nil {
			return nil, fmt.Errorf("serve %s: %w", r.shares[daemon.First].mount.Path, err)
		}
	}
	if r.State.Transport == transportVhostUser {
		for i, s := range r.shares {
			if err := r.fronts.serveVhostUser(ctx, r.Dir, i, s); err != nil {
				return nil, err
			}
		}
	}
	conn, err := connOf(r.Control.File)
	if err != nil {
		return nil, err
	}
	if err := r.fronts.bringUp(r.VMM, r.shares); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: %w", r.State.VMM, err)
	}
	r.step("%s started, pid %d", r.State.VMM, r.VMM.Process.PID)
	return conn, nil
}

// keepWords begins the logs of the guest's console and of the programs that run it.
func (r *run) keepWords() (err error) {
	if r.console, err = r.openLog("console.log"); err != nil {
		return err
	}
	if r.vmmLog, err = r.openLog("vmm.log"); err != nil {
		return err
	}
	screen, err := connOf(r.Console.File)
	if err != nil {
		return err
	}
	for _, drained := range []<-chan struct{}{r.console.drain(screen), r.vmmLog.drain(r.Words.File)} {
		r.words.Go(func() { <-drained })
	}
	return nil
}

// converse talks to the guest until the command's end, or until ctx ends.
func (r *run) converse(ctx context.Context, conn io.ReadWriteCloser) (wire.Exit, error) {
	g, err := newGuest(wire.NewConn(conn), r.streams)
	if err != nil {
		conn.Close()
		return wire.Exit{}, err
	}
	defer g.close()
	r.mu.Lock()
	r.guest = g
	r.mu.Unlock()
	r.background.Go(func() { r.heedStop(ctx, g) })
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	message := bootMessage(r.Plan, r.shares)
	return g.converse(message, func() error {
		if r.streams.TTY {
			message.TTY = true
			message.Rows, message.Cols = windowSize(r.streams.Stdin)
			if r.terminal, err = enterRaw(r.streams.Stdin, r.Janitor); err != nil {
				return err
			}
		}
		r.step("the guest is up")
		r.State.Up = true
		if err := r.State.publish(r.Dir); err != nil {
			return err
		}
		r.onUp()
		return nil
	})
}

// unexpected says how a guest ended that did not say so itself.
func (r *run) unexpected(err error) error {
	waitWithin(&r.words, termWait)
	var said []string
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET) {
		said = append(said, err.Error())
	}
	select {
	case <-r.VMM.Process.ended():
		if r.VMM.Process.err != nil {
			said = append(said, fmt.Sprintf("%s: %v", r.State.VMM, r.VMM.Process.err))
		}
	default:
	}
	said = append(said, r.vmmLog.last(2)...)
	said = append(said, r.console.last(3)...)
	if len(said) == 0 {
		said = append(said, r.State.VMM+" ended without a word")
	}
	return &hinted{ErrGuest, fmt.Sprintf("%v: %s", ErrGuest, strings.Join(said, "; "))}
}

// cleanUp ends and closes all that was begun, the newest first, and then has the janitor remove the folders.
func (r *run) cleanUp() error {
	// The run's own context has ended by now: what is waited for here has limits of its own.
	ctx := context.Background()
	r.terminal.restore()
	var errs []error
	if r.VMM != nil {
		r.VMM.stop(ctx, 0, termWait)
	}
	for _, daemon := range r.Daemons {
		daemon.stop(ctx, closeWait/5, closeWait/5) // a virtiofsd ends with its connection, or is ended
	}
	if r.fronts != nil {
		errs = append(errs, r.fronts.close())
	}
	if r.nursery != nil {
		r.nursery.close()
	}
	if r.control != nil {
		errs = append(errs, r.control.close())
	}
	errs = append(errs, closeShares(r.shares))
	for _, log := range r.logs {
		errs = append(errs, log.Close())
	}
	for _, lock := range r.Locks {
		lock.Close()
	}
	if r.Janitor != nil {
		errs = append(errs, r.Janitor.finish())
	}
	if r.control != nil {
		r.control.release()
	}
	return errors.Join(errs...)
}
