package launcher

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/initramfs"
	"github.com/micavm/mica/launcher/kernel"
	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// A platform is what a guest runs on.
type platform struct {
	monitor   vmm.VMM
	transport string
	kernel    kernel.Kernel
}

// prepare is the first half of a run. Its children wait for the second half before they execute their programs; all that the janitor is ever to
// remove or to kill it is told here.
func (r *run) prepare(ctx context.Context) error {
	on, err := r.choose(ctx)
	if err != nil {
		return err
	}
	r.step("monitor %s, transport %s, kernel %s", on.monitor.Name(), on.transport, on.kernel.Path)
	if err := r.claim(ctx, on); err != nil {
		return err
	}
	r.step("run folder %s", r.Dir)
	if err := r.openHome(); err != nil {
		return err
	}
	if err := r.startChildren(ctx, on); err != nil {
		return err
	}
	if r.Plan.Config != "" {
		if err := r.Janitor.tell(order{Follow: r.Plan.Config}); err != nil {
			return err
		}
	}
	return r.Janitor.tell(order{Seal: true})
}

// choosePlatform finds all that the run needs of this machine, before anything is made.
func (r *run) choosePlatform(ctx context.Context) (platform, error) {
	monitor, transport, err := chooseVMM(r.Plan, func(line string) { r.say("%s", line) })
	if err != nil {
		return platform{}, err
	}
	image, err := findKernel(ctx, r.Plan)
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
	r.State = State{
		Name: r.Plan.Name, Project: r.Plan.Project, Image: r.Plan.Image.Reference,
		VMM: on.monitor.Name(), Transport: on.transport, Process: self, Started: time.Now(),
	}
	if r.Dir, err = runDir(r.Plan.Name, r.Plan.Project); err != nil {
		return err
	}
	var tty *os.File
	if r.streams.TTY {
		tty = r.streams.Stdin
	}
	if r.Janitor, err = startJanitor(r.streams.Stderr, tty); err != nil {
		return err
	}
	if err := r.Janitor.tell(order{Remove: r.Dir}); err != nil {
		return err
	}
	folder, err := claim(ctx, r.Dir, r.State)
	if err != nil {
		return err
	}
	r.Locks = append(r.Locks, kept{folder.lock})
	return nil
}

// openHome opens the sandbox's folder.
func (r *run) openHome() error {
	if r.Plan.Project == "" {
		return r.openThrowAway()
	}
	home, err := OpenHome(r.Plan)
	if err != nil {
		return err
	}
	r.Home, r.Upper = home.Dir, home.Upper
	r.Locks = append(r.Locks, kept{home.lock})
	return nil
}

func (r *run) openThrowAway() error {
	dir, err := throwAwayFolder(r.Plan)
	if err != nil {
		return err
	}
	if err := r.Janitor.tell(order{Remove: dir}); err != nil {
		return err
	}
	home, folder, err := openThrowAway(r.Plan, dir)
	if err != nil {
		return err
	}
	r.Home, r.Upper = home.Dir, home.Upper
	r.Locks = append(r.Locks, kept{folder.lock})
	return nil
}

// startChildren starts the monitor, and the programs that serve shares to it.
func (r *run) startChildren(ctx context.Context, on platform) (err error) {
	r.nursery = newNursery()
	m := vmm.Machine{
		Name: r.Plan.Name, CPUs: r.Plan.CPUs, MemoryMiB: r.Plan.MemoryMiB,
		Kernel: on.kernel.Path, Dir: filepath.Join(r.Dir, "vmm"),
	}
	if !r.Plan.Debug {
		m.Cmdline = "quiet"
	}
	if m.Initrd, err = initrd(on.kernel); err != nil {
		return err
	}
	if err := os.Mkdir(m.Dir, 0o700); err != nil {
		return err
	}
	if r.Words.File, m.Log, err = os.Pipe(); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer m.Log.Close()
	if r.Control.File, m.Control, err = socketPair(unix.SOCK_STREAM); err != nil {
		return err
	}
	defer m.Control.Close()
	if r.Console.File, m.Console, err = socketPair(unix.SOCK_STREAM); err != nil {
		return err
	}
	defer m.Console.Close()
	devices, mounts, err := r.offerShares(on.transport, m.Log)
	if err != nil {
		return err
	}
	m.Shares = devices
	return r.startVMM(ctx, on.monitor, m, mounts)
}

func (r *run) startVMM(ctx context.Context, monitor vmm.VMM, m vmm.Machine, mounts []fuseMount) error {
	command, err := monitor.Command(ctx, m)
	if err == nil {
		rules := vmmRules(m, monitor.Name(), command.Path)
		for _, mount := range mounts {
			rules.Write = append(rules.Write, mount.Dir)
		}
		r.VMM, err = r.startStage(*command, mounts, rules, m.Log)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", monitor.Name(), err)
	}
	return nil
}

// startStage starts a child. The janitor kills it should this process end without having done so.
func (r *run) startStage(command vmm.Command, mounts []fuseMount, rules landlock.Rules, out *os.File) (*stage, error) {
	st, err := r.nursery.startStage(command, mounts, rules, out)
	if err != nil {
		return nil, err
	}
	if p, err := findProcess(st.Process.PID); err == nil {
		if err := r.Janitor.tell(order{Kill: &p}); err != nil {
			st.abandon()
			return nil, err
		}
	}
	return st, nil
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
