package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/micavm/mica/launcher"
)

type mountCommand struct {
	Words  []string `arg:"" name:"name" help:"NAME MOUNTPOINT: a sandbox of mica.toml, and the folder to mount on; with --image only the folder."`
	Image  string   `help:"Mount an image, as it is." placeholder:"REF"`
	File   string   `short:"f" help:"The configuration: mica.toml, or the folder it is in." placeholder:"FILE"`
	RW     bool     `name:"rw" help:"Let changes go to the sandbox's root."`
	Detach bool     `short:"d" help:"Return when it is mounted; mica umount ends it."`
}

// Help is the long text of mica mount --help.
func (mountCommand) Help() string {
	return strings.Trim(`
It is called in two ways:

  mica mount NAME MOUNTPOINT
  mica mount --image REF MOUNTPOINT

What is seen is what the guest has: of a sandbox that runs, its very filesystem. Without -d the mount ends with mica, on Ctrl-C.`, "\n")
}

// Run mounts, and serves the mount until its end.
func (c *mountCommand) Run(a *app) error {
	name, dir, err := c.words()
	if err != nil {
		return err
	}
	w := which{Image: c.Image, File: c.File}
	t, err := w.target(name)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(a.ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if t.request.Sandbox != nil {
		err := launcher.MountRunning(ctx, name, t.request.File.Project, dir, c.RW)
		if err == nil {
			return c.stay(ctx, a, dir)
		}
		if !errors.Is(err, launcher.ErrNotFound) {
			return err
		}
	}
	if c.Detach && !isDetached() {
		return startDetached(a)
	}
	return c.mountIdle(ctx, a, t, dir)
}

// stay waits for the end of a mount that the running sandbox serves.
func (c *mountCommand) stay(ctx context.Context, a *app, dir string) error {
	if c.Detach {
		return nil
	}
	a.say("mounted the running sandbox on %s: Ctrl-C or mica umount %s ends it", dir, dir)
	return launcher.WaitUnmounted(ctx, dir)
}

func (c *mountCommand) mountIdle(ctx context.Context, a *app, t target, dir string) error {
	image, defaults, err := a.pull(t.reference)
	if err != nil {
		return err
	}
	t.request.Script = "shell" // a mount runs nothing: what has no command can be looked at too
	p, err := launcher.NewPlan(t.request, image, defaults)
	if err != nil {
		return err
	}
	p.Debug = a.debug
	warnings := a.stderr
	if isDetached() {
		syscall.CloseOnExec(readyDescriptor)
		if warnings, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
			return err
		}
		defer warnings.Close()
	}
	m, err := launcher.MountIdle(p, dir, c.RW, warnings)
	if err != nil {
		return err
	}
	if isDetached() {
		announceReady()
	} else {
		a.say("mounted on %s: Ctrl-C or mica umount %s ends it", dir, dir)
	}
	return m.Serve(ctx)
}

func (c *mountCommand) words() (name, dir string, err error) {
	want := 2
	if c.Image != "" {
		want = 1
	}
	if len(c.Words) != want {
		return "", "", usage("mount takes NAME MOUNTPOINT, or --image REF MOUNTPOINT", "mica mount")
	}
	if want == 2 {
		name = c.Words[0]
	}
	return name, c.Words[want-1], nil
}
