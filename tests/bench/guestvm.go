package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/fusefs/vhostuser"
	"github.com/micavm/mica/initramfs"
	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/launcher/qemu"
	"github.com/micavm/mica/launcher/vmm"
	"github.com/micavm/mica/layers"
)

//go:embed guest/init.sh
var guestInit []byte

// A guest is a machine with two shares of the Debian image, mounted at /mica and /virtiofsd, that does what it is told.
type guest struct {
	machine *machine
	replies *bufio.Reader
	dir     string
	cancel  context.CancelFunc
	servers []func() error // each ends one
}

// guestMinutes bounds all that is done in the guest.
const guestMinutes = 20

func (b *bench) bootGuest() (_ *guest, err error) {
	m, err := b.mounter()
	if err != nil {
		return nil, err
	}
	disk, remove, err := b.newDisk("guest")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), guestMinutes*time.Minute)
	g := &guest{dir: disk, cancel: cancel, servers: []func() error{remove}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.stop())
		}
	}()
	if err := g.serveMica(ctx, b.program); err != nil {
		return nil, err
	}
	if err := g.serveVirtiofsd(ctx, m); err != nil {
		return nil, err
	}
	return g, g.boot(ctx, filepath.Join(b.cache, "amdv", "busybox"))
}

func (g *guest) socket(tag string) string { return filepath.Join(g.dir, tag+".sock") }

// serveMica serves the root of a sandbox as mica run does.
func (g *guest) serveMica(ctx context.Context, p program) error {
	store, err := layers.OpenStore(filepath.Join(p.dir, "mica"), filepath.Join(p.dir, "mica"))
	if err != nil {
		return err
	}
	image, err := store.Pull(ctx, p.image("debian"), nil)
	if err != nil {
		return err
	}
	plan := &launcher.Plan{Name: "bench", Hostname: "bench"}
	for _, l := range image.Layers {
		plan.Image.Layers = append(plan.Image.Layers, launcher.Layer{Dir: l.Dir, Index: l.Index})
	}
	upper := &fusefs.Upper{Dir: filepath.Join(g.dir, "upper"), Work: filepath.Join(g.dir, "work")}
	if err := errors.Join(os.Mkdir(upper.Dir, 0o700), os.Mkdir(upper.Work, 0o700)); err != nil {
		return err
	}
	root, err := launcher.Compose(plan, upper)
	if err != nil {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.socket("mica"), Net: "unix"})
	if err != nil {
		return errors.Join(err, root.Close())
	}
	connection := root.Connect(fusefs.ConnectOptions{Guest: true})
	served := make(chan error, 1)
	go func() {
		served <- vhostuser.Serve(ctx, listener, connection, vhostuser.Options{Mount: connection.ServerOptions(false)})
	}()
	g.servers = append(g.servers, func() error {
		err := <-served
		if ctx.Err() != nil {
			err = nil
		}
		connection.Close()
		return errors.Join(err, listener.Close(), root.Close())
	})
	return nil
}

// serveVirtiofsd serves a kernel overlayfs of the same layers, for which the guest may cache everything.
func (g *guest) serveVirtiofsd(ctx context.Context, m mounter) error {
	m.dir = g.dir
	options := "lowerdir=" + m.lower
	for _, part := range []string{"upper", "work"} {
		dir, err := m.folder("overlay", part)
		if err != nil {
			return err
		}
		options += "," + part + "dir=" + dir
	}
	overlay, err := m.mount(kernelOverlayfs, "writable", options)
	if err != nil {
		return err
	}
	g.servers = append(g.servers, overlay.close)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.socket("virtiofsd"), Net: "unix"})
	if err != nil {
		return err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	inherited, err := listener.File()
	if err != nil {
		return err
	}
	defer inherited.Close()
	daemon := exec.CommandContext(ctx, os.Getenv("MICA_VIRTIOFSD"), "--fd=3", "--shared-dir="+overlay.dir, "--cache=always", "--xattr", "--sandbox=none")
	daemon.ExtraFiles = []*os.File{inherited}
	if err := daemon.Start(); err != nil {
		return err
	}
	g.servers = append(g.servers, func() error {
		if err := daemon.Wait(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", daemon, err)
		}
		return nil
	})
	return nil
}

func (g *guest) boot(ctx context.Context, busybox string) error {
	initrd := filepath.Join(g.dir, "initrd")
	if err := writeGuestInitrd(initrd, busybox); err != nil {
		return err
	}
	monitor, err := qemu.New()
	if err != nil {
		return err
	}
	g.machine, err = startMachine(ctx, monitor, vmm.Machine{
		Name: "bench", CPUs: 2, MemoryMiB: 2048, Kernel: os.Getenv("MICA_KERNEL"), Initrd: initrd, Cmdline: "quiet", Dir: g.dir,
		Shares: []vmm.Share{{Tag: "mica", Socket: g.socket("mica")}, {Tag: "virtiofsd", Socket: g.socket("virtiofsd")}},
	})
	if err != nil {
		return err
	}
	g.replies = bufio.NewReader(g.machine.control)
	return g.expect("ready")
}

func writeGuestInitrd(path, busybox string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return initramfs.Write(file, []initramfs.File{
		{Path: "busybox", Mode: 0o755, Data: program},
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "init", Mode: 0o755, Data: guestInit},
	})
}

// order has the guest's shell do a line of script, and gives the time that took, seen from here: a guest's own clock is emulated.
func (g *guest) order(script string) (time.Duration, error) {
	start := time.Now()
	if _, err := fmt.Fprintln(g.machine.control, script); err != nil {
		return 0, err
	}
	if err := g.expect("done"); err != nil {
		return 0, fmt.Errorf("%s: %w", script, err)
	}
	return time.Since(start), nil
}

func (g *guest) expect(word string) error {
	reply, err := g.replies.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the guest's reply: %w", err)
	}
	if reply = strings.TrimSpace(reply); reply != word {
		return fmt.Errorf("the guest says: %s", reply)
	}
	return nil
}

// stop ends the guest, and then its servers, the last one first.
func (g *guest) stop() error {
	defer g.cancel()
	var err error
	if g.machine == nil {
		g.cancel() // the servers wait for a connection
	} else {
		_, err = fmt.Fprintln(g.machine.control, "exec reboot -f")
		err = errors.Join(err, g.machine.wait())
	}
	for i := range g.servers {
		err = errors.Join(err, g.servers[len(g.servers)-1-i]())
	}
	return err
}
