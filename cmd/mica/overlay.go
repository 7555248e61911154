package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// overlayCommand is a drop-in for fuse-overlayfs: folders as layers, no image and no index.
type overlayCommand struct {
	Words      []string `arg:"" name:"mountpoint" help:"The folder to mount on; a source before it is what the table of mounts shows."`
	Options    []string `short:"o" sep:"none" placeholder:"OPT,…" help:"lowerdir=A:B,upperdir=U,workdir=W and more: see below."`
	Foreground bool     `short:"f" help:"Stay until the mount ends; otherwise return when it is mounted."`
	Trace      bool     `short:"d" help:"Print every request, and stay in the foreground."`
}

// Help is the long text of mica overlay --help.
func (overlayCommand) Help() string {
	return strings.Trim(`
Folders become one filesystem: those of lowerdir, the topmost first, and over them upperdir, where changes go; workdir is a folder for
mica's own use on upperdir's filesystem. Without upperdir the mount is read-only. \: stands for a colon in a path, \, for a comma.

  mica overlay -o lowerdir=B:A,upperdir=U,workdir=W MOUNTPOINT
  mount -t fuse.mica -o lowerdir=B:A overlay MOUNTPOINT

The second form needs a link /sbin/mount.fuse.mica to mica. Through a link named fuse-overlayfs, mica is a mount_program of container storage.

Owners, modes and types are those of the files. With xattr_permissions=1 or 2 they are in user.containers.override_stat, so that an
ordinary user can have any of them. Other options of fuse-overlayfs and of mount(8) do what they do there, or are refused.`, "\n")
}

// Run mounts, and serves the mount until its end.
func (c *overlayCommand) Run(a *app) error {
	o, err := parseOverlayOptions(c.Options, false)
	if err != nil {
		return err
	}
	return c.mount(a, o)
}

func (c *overlayCommand) mount(a *app, o overlayOptions) error {
	if len(c.Words) > 2 {
		return fmt.Errorf("unexpected argument %q: a mount takes one mount point, and a source before it", c.Words[2])
	}
	dir, err := overlayMountPoint(c.Words[len(c.Words)-1])
	if err != nil {
		return err
	}
	if len(c.Words) == 2 && o.source == "" {
		o.source = c.Words[0]
	}
	o.debug = c.Trace || a.debug
	if !c.Foreground && !o.debug && !isDetached() {
		return startDetached(a)
	}
	m, err := mountOverlay(o, dir)
	if err != nil {
		return err
	}
	if isDetached() {
		syscall.CloseOnExec(readyDescriptor)
		announceReady()
	}
	return m.serve(a.ctx)
}

// overlayMountPoint is dir as an absolute path without links, checked to be a folder.
func overlayMountPoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", dir, err)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return "", fmt.Errorf("mount point %s is not a folder: name one that is", dir)
	}
	return abs, nil
}
