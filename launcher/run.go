package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
	"github.com/micavm/mica/initramfs"
	"github.com/micavm/mica/launcher/kernel"
	"github.com/micavm/mica/launcher/vmm"
)

// A Status is the exit status of the command in the guest: 128+n when signal n ended it.
type Status int

// StatusFailed is the status of a run that mica itself could not carry out.
const StatusFailed Status = 125

const (
	powerOffWait = 5 * time.Second  // for a guest to power off once its command has ended
	termWait     = 2 * time.Second  // for a monitor to heed SIGTERM
	stopWait     = 10 * time.Second // for a command to heed SIGTERM when the sandbox is stopped
	signalGrace  = 500 * time.Millisecond
)

// Run carries the plan out, and returns how the command ended. Words of mica's own go to standard error of streams. When ctx ends, the guest is ended.
func Run(ctx context.Context, p *Plan, streams IO) (Status, error) {
	return newRun(p, streams).execute(ctx)
}

func newRun(p *Plan, streams IO) *run {
	r := &run{plan: p, streams: streams, onUp: func() {}, stop: make(chan struct{})}
	r.choose = r.choosePlatform
	return r
}

func (r *run) execute(ctx context.Context) (status Status, err error) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	signals := catchSignals()
	defer signal.Stop(signals)
	r.background.Go(func() { r.heedSignals(ctx, signals) })

	status, err = r.carryOut(ctx)
	r.cancel(nil)
	r.background.Wait()
	if left := r.cleanUp(); left != nil {
		r.say("warning: %v", left) // the command's status is what counts
	}
	var stopped *stopped
	if errors.As(err, &stopped) {
		r.complain("%v", stopped)
		return Status(128 + int(stopped.signal)), nil
	}
	return status, err
}

// A run is one sandbox from its plan to its end. Whatever it makes it notes here as soon as it is there, so that cleanUp finds it on every way out.
type run struct {
	plan    *Plan
	streams IO
	choose  func(context.Context) (platform, error)
	onUp    func() // called once the guest is there
	cancel  context.CancelCauseFunc

	background sync.WaitGroup // what ends with the context
	stop       chan struct{}  // closed when the sandbox is asked to stop
	stopOnce   sync.Once

	state     State
	janitor   *janitor
	folder    *lockedFolder // the run folder
	home      *Home
	throwAway *lockedFolder
	shares    []share
	control   *controlServer
	nursery   *nursery
	fronts    *frontEnds
	consoles  []*boundedLog
	vmm       *child
	terminal  *terminal

	mu    sync.Mutex
	guest *guest
}

// stopped is why a run ended that a signal ended before, or against, its guest.
type stopped struct{ signal unix.Signal }

func (s *stopped) Error() string {
	return fmt.Sprintf("stopped by %s before the command ended", unix.SignalName(s.signal))
}

// say is a line of mica's own to the user, who can ask for quiet.
func (r *run) say(format string, args ...any) {
	if !r.plan.Quiet {
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
	if r.plan.Debug {
		r.complain("debug: "+format, args...)
	}
}

// A platform is what a guest runs on.
type platform struct {
	monitor   vmm.VMM
	transport string
	kernel    kernel.Kernel
}

func (r *run) carryOut(ctx context.Context) (Status, error) {
	on, err := r.choose(ctx)
	if err != nil {
		return StatusFailed, err
	}
	r.step("monitor %s, transport %s, kernel %s", on.monitor.Name(), on.transport, on.kernel.Path)
	if err := r.claim(ctx, on); err != nil {
		return StatusFailed, err
	}
	r.step("run folder %s", r.folder.Path)
	if err := r.compose(ctx); err != nil {
		return StatusFailed, err
	}
	r.step("root of %d layers, and %d volumes", len(r.plan.Image.Layers), len(r.plan.Volumes))
	return r.boot(ctx, on)
}

// choosePlatform finds all that the run needs of this machine, before anything is made.
func (r *run) choosePlatform(ctx context.Context) (platform, error) {
	monitor, transport, err := chooseVMM(r.plan, func(line string) { r.say("%s", line) })
	if err != nil {
		return platform{}, err
	}
	image, err := findKernel(ctx, r.plan)
	if err != nil {
		return platform{}, err
	}
	if guestRootOnly(transport) {
		r.say("transport %s serves only the guest's root: other users of the guest cannot create files, because mica is not run by root", transport)
	}
	return platform{monitor, transport, image}, nil
}

func findKernel(ctx context.Context, p *Plan) (kernel.Kernel, error) {
	cache, err := cacheDir()
	if err != nil {
		return kernel.Kernel{}, err
	}
	data, err := dataDir()
	if err != nil {
		return kernel.Kernel{}, err
	}
	return kernel.Find(ctx, kernel.Search{Flag: p.Kernel, DataDir: data, CacheDir: cache})
}

// claim starts the janitor, before anything is there for it, and takes the name.
func (r *run) claim(ctx context.Context, on platform) error {
	self, err := findProcess(os.Getpid())
	if err != nil {
		return fmt.Errorf("find own process: %w", err)
	}
	r.state = State{
		Name: r.plan.Name, Project: r.plan.Project, Image: r.plan.Image.Reference,
		VMM: on.monitor.Name(), Transport: on.transport, Process: self, Started: time.Now(),
	}
	dir, err := runDir(r.plan.Name, r.plan.Project)
	if err != nil {
		return err
	}
	var tty *os.File
	if r.streams.TTY {
		tty = r.streams.Stdin
	}
	if r.janitor, err = startJanitor(r.streams.Stderr, tty); err != nil {
		return err
	}
	if err := r.janitor.tell(order{Remove: dir}); err != nil {
		return err
	}
	r.folder, err = claim(ctx, dir, r.state)
	return err
}

// compose opens the sandbox's folder and its file systems.
func (r *run) compose(ctx context.Context) (err error) {
	if r.plan.Project == "" {
		dir, err := throwAwayFolder(r.plan)
		if err != nil {
			return err
		}
		if err := r.janitor.tell(order{Remove: dir}); err != nil {
			return err
		}
		if r.home, r.throwAway, err = openThrowAway(r.plan, dir); err != nil {
			return err
		}
	} else if r.home, err = OpenHome(r.plan); err != nil {
		return err
	}
	if r.shares, err = compose(r.plan, r.home.Upper); err != nil {
		return err
	}
	root := r.shares[0].fs
	r.control, err = startControl(r.folder.Path, root, r.janitor, r.plan.Debug, r.askToStop)
	if err != nil {
		return err
	}
	log, err := r.openLog("mica.log")
	if err != nil {
		return err
	}
	r.background.Go(func() { follow(ctx, r.plan, root, log) })
	return nil
}

func (r *run) openLog(name string) (*boundedLog, error) {
	l, err := createLog(filepath.Join(r.home.Dir, "log", name), logLimit)
	if err == nil {
		r.consoles = append(r.consoles, l)
	}
	return l, err
}

// boot starts the monitor and talks to the guest until its end.
func (r *run) boot(ctx context.Context, on platform) (Status, error) {
	console, err := r.openLog("console.log")
	if err != nil {
		return StatusFailed, err
	}
	vmmLog, err := r.openLog("vmm.log")
	if err != nil {
		return StatusFailed, err
	}
	conn, err := r.startVMM(ctx, on, console, vmmLog)
	if err != nil {
		return StatusFailed, err
	}
	exit, err := r.converse(ctx, conn)
	r.terminal.restore()
	if err == nil {
		r.step("the command ended with status %d", exit.Status())
		r.vmm.stop(ctx, powerOffWait, termWait)
		if exit.Error != "" {
			r.complain("%s", exit.Error)
		}
		return Status(exit.Status()), nil
	}
	if ctx.Err() == nil {
		// Give the monitor the time to say why it ended: it may have more words than the guest.
		r.vmm.endsWithin(ctx, termWait)
	}
	r.vmm.stop(ctx, 0, termWait)
	if cause := context.Cause(ctx); cause != nil {
		return StatusFailed, cause
	}
	return StatusFailed, r.unexpected(err, on.monitor, console, vmmLog)
}

// startVMM makes the front ends and starts the monitor over them. It gives the host's end of the control port.
func (r *run) startVMM(ctx context.Context, on platform, console, vmmLog *boundedLog) (io.ReadWriteCloser, error) {
	r.nursery = newNursery()
	r.fronts = &frontEnds{dir: r.folder.Path, nursery: r.nursery, janitor: r.janitor, debug: r.plan.Debug, log: vmmLog, failed: make(chan error, 1)}
	r.background.Go(func() {
		select {
		case err := <-r.fronts.failed:
			r.cancel(err)
		case <-ctx.Done():
		}
	})
	m := vmm.Machine{Name: r.plan.Name, CPUs: r.plan.CPUs, MemoryMiB: r.plan.MemoryMiB, Kernel: on.kernel.Path}
	if !r.plan.Debug {
		m.Cmdline = "quiet"
	}
	var err error
	if m.Initrd, err = initrd(on.kernel); err != nil {
		return nil, err
	}
	devices, mounts, err := r.fronts.prepare(ctx, on.transport, r.shares)
	if err != nil {
		return nil, err
	}
	m.Shares = devices
	m.Dir = filepath.Join(r.folder.Path, "vmm")
	if err := os.Mkdir(m.Dir, 0o700); err != nil {
		return nil, err
	}
	return r.startMachine(ctx, on.monitor, m, mounts, console)
}

// initrd is the archive for the kernel, "" for one that takes none and finds guest-init in its root.
func initrd(k kernel.Kernel) (string, error) {
	if !k.Initramfs {
		_, err := initramfs.GuestInit()
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	return initramfs.Cached(cache)
}

func (r *run) startMachine(ctx context.Context, monitor vmm.VMM, m vmm.Machine, mounts []fuseMount, console *boundedLog) (io.ReadWriteCloser, error) {
	conn, control, err := connPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	screen, theirs, err := connPair(unix.SOCK_STREAM)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer theirs.Close()
	console.drain(screen)
	m.Control, m.Console = control, theirs
	words, _, err := r.fronts.log.pump()
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer words.Close()
	m.Log = words
	command, err := monitor.Command(ctx, m)
	if err == nil {
		rules := vmmRules(m, monitor.Name(), command.Path)
		for _, mount := range mounts {
			rules.Write = append(rules.Write, mount.Dir)
		}
		r.vmm, err = r.fronts.startChild(*command, mounts, r.shares, rules)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: %w", monitor.Name(), err)
	}
	r.step("%s started, pid %d", monitor.Name(), r.vmm.cmd.Process.Pid)
	return conn, nil
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

	message := bootMessage(r.plan, r.shares)
	return g.converse(message, func() error {
		if r.streams.TTY {
			message.TTY = true
			message.Rows, message.Cols = windowSize(r.streams.Stdin)
			if r.terminal, err = enterRaw(r.streams.Stdin, r.janitor); err != nil {
				return err
			}
		}
		r.step("the guest is up")
		r.state.Up = true
		r.onUp()
		return r.state.publish(r.folder.Path)
	})
}

// unexpected says how a guest ended that did not say so itself.
func (r *run) unexpected(err error, monitor vmm.VMM, console, vmmLog *boundedLog) error {
	var said []string
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET) {
		said = append(said, err.Error())
	}
	select {
	case <-r.vmm.ended:
		if r.vmm.err != nil {
			said = append(said, fmt.Sprintf("%s: %v", monitor.Name(), r.vmm.err))
		}
	default:
	}
	said = append(said, vmmLog.last(2)...)
	said = append(said, console.last(3)...)
	if len(said) == 0 {
		said = append(said, monitor.Name()+" ended without a word")
	}
	return &hinted{ErrGuest, fmt.Sprintf("%v: %s", ErrGuest, strings.Join(said, "; "))}
}

// catchSignals has the signals that are the guest's sent to a channel. SIGPIPE is among them so that a write to a reader who is gone
// is an error and not the end; a child has its default again.
func catchSignals() chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGPIPE)
	return c
}

// heedSignals passes the user's signals on. Before the guest is up, and for a second SIGINT or SIGTERM, the guest is ended instead.
func (r *run) heedSignals(ctx context.Context, signals <-chan os.Signal) {
	var first time.Time
	for {
		var sig unix.Signal
		select {
		case s := <-signals:
			sig = s.(unix.Signal)
		case <-ctx.Done():
			return
		}
		g := r.upGuest()
		switch {
		case sig == unix.SIGPIPE:
		case sig == unix.SIGWINCH:
			if g != nil && r.streams.TTY {
				g.resize()
			}
		case g == nil:
			r.cancel(&stopped{sig})
		case (sig == unix.SIGINT || sig == unix.SIGTERM) && !first.IsZero() && time.Since(first) > signalGrace:
			r.cancel(&stopped{sig})
		default:
			if sig == unix.SIGINT || sig == unix.SIGTERM {
				if first.IsZero() {
					first = time.Now()
				}
			}
			g.signal(sig)
		}
	}
}

func (r *run) upGuest() *guest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guest == nil || !r.guest.isUp() {
		return nil
	}
	return r.guest
}

// askToStop is what mica stop does.
func (r *run) askToStop() {
	r.stopOnce.Do(func() {
		close(r.stop)
		if r.upGuest() == nil {
			r.cancel(&stopped{unix.SIGTERM})
		}
	})
}

// heedStop ends the command when the sandbox is asked to stop, and the guest when the command does not heed it.
func (r *run) heedStop(ctx context.Context, g *guest) {
	select {
	case <-ctx.Done():
		return
	case <-r.stop:
	}
	g.signal(unix.SIGTERM)
	select {
	case <-ctx.Done():
	case <-time.After(stopWait):
		r.cancel(&stopped{unix.SIGKILL})
	}
}

// cleanUp ends and closes all that was begun, the newest first, and then has the janitor remove the folders.
func (r *run) cleanUp() error {
	// The run's own context has ended by now: what is waited for here has limits of its own.
	ctx := context.Background()
	r.terminal.restore()
	var errs []error
	if r.vmm != nil {
		r.vmm.stop(ctx, 0, termWait)
	}
	if r.fronts != nil {
		errs = append(errs, r.fronts.close(ctx))
	}
	if r.nursery != nil {
		r.nursery.close()
	}
	if r.control != nil {
		errs = append(errs, r.control.close())
	}
	errs = append(errs, closeShares(r.shares))
	for _, log := range r.consoles {
		errs = append(errs, log.Close())
	}
	if r.home != nil {
		r.home.Close()
	}
	for _, folder := range []*lockedFolder{r.throwAway, r.folder} {
		if folder != nil {
			folder.release()
		}
	}
	if r.janitor != nil {
		errs = append(errs, r.janitor.finish())
	}
	if r.control != nil {
		r.control.release()
	}
	return errors.Join(errs...)
}
