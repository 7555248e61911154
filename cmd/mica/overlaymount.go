package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/launcher"
)

// An overlayMount is a mount that this process serves.
type overlayMount struct {
	dir     string
	union   *fusefs.FS
	mounted *fusefs.Mounted
	guard   *launcher.Guard
}

func mountOverlay(o overlayOptions, dir string) (_ *overlayMount, err error) {
	unix.Umask(0) // modes are the callers'
	m := &overlayMount{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.release())
		}
	}()
	if m.union, err = fusefs.New(o.union()); err != nil {
		return nil, err
	}
	if err := os.Chdir("/"); err != nil { // the folder that it was started in does not stay in use
		return nil, err
	}
	if m.guard, err = launcher.StartGuard(dir); err != nil {
		return nil, err
	}
	if o.source == "" {
		o.source = fmt.Sprintf("mica:overlay:%d", os.Getpid()) // for umount to wait for
	}
	if os.Geteuid() == 0 {
		m.mounted, err = o.mountAsRoot(m.union, dir)
	} else {
		m.mounted, err = fusefs.Mount(m.union, dir, fusefs.MountOptions{
			ReadOnly: o.readOnly(), AllowOther: o.allowOther || launcher.AllowOther(), DefaultPermissions: true, NoACL: o.noACL,
			Debug: o.debug, Source: o.source, View: o.shown(),
		})
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// union is what is to be mounted. An upper of a read-only mount is one more layer, so that its filesystem may be read-only too.
func (o overlayOptions) union() fusefs.Config {
	c := fusefs.Config{RealOwners: !o.stored}
	for _, dir := range slices.Backward(o.lower) {
		c.Layers = append(c.Layers, fusefs.Layer{Dir: dir})
	}
	switch {
	case o.upper == "":
	case o.readOnly():
		c.Layers = append(c.Layers, fusefs.Layer{Dir: o.upper})
	default:
		c.Upper = &fusefs.Upper{
			Dir: o.upper, Work: o.work, RealOwners: !o.stored, UnseenOwners: o.squashes(), Volatile: o.volatile || o.noFsync, NoRedirect: true,
		}
	}
	return c
}

// mountAsRoot mounts by mount(2), as root of a user namespace too: unlike fusermount3, it takes every option.
func (o overlayOptions) mountAsRoot(union *fusefs.FS, dir string) (*fusefs.Mounted, error) {
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", launcher.ErrNoFUSE, err)
	}
	defer dev.Close()
	flags := o.flags
	if o.readOnly() {
		flags |= unix.MS_RDONLY
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d,default_permissions,allow_other%s", dev.Fd(), 1<<20, o.context)
	if err := unix.Mount(o.source, dir, "fuse.mica", flags, options); err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	m, err := fusefs.ServeDevice(union, dev, fusefs.MountOptions{
		ReadOnly: o.readOnly(), DefaultPermissions: true, NoACL: o.noACL, Debug: o.debug, Passthrough: o.passthrough, View: o.shown(),
	})
	if err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
	return m, err
}

// serve serves the mount until somebody unmounts it, or until a signal or ctx unmounts it.
func (m *overlayMount) serve(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- m.mounted.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = launcher.Unmount(m.dir, true)
	}
	return errors.Join(err, m.release())
}

// release gives back all but the mount itself.
func (m *overlayMount) release() error {
	var errs []error
	if m.union != nil {
		errs = append(errs, m.union.Close())
	}
	if m.guard != nil {
		errs = append(errs, m.guard.Finish())
	}
	return errors.Join(errs...)
}
