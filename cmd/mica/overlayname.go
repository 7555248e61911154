package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

// The names of links to mica by which it mounts layers, and the exit status of a failure that who calls it so expects.
var overlayNames = map[string]int{
	"fuse-overlayfs":  1,
	"mount.fuse.mica": 32, // mount(8): "mount failure"
}

// linkedOverlay is the command line of mica under one of overlayNames: overlay's own, and what fuse-overlayfs and the helpers of mount(8)
// take besides.
type linkedOverlay struct {
	overlayCommand
	Version bool   `short:"V" help:"Say which version this is."`
	Sloppy  bool   `short:"s" help:"Ignore options that are unknown."`
	NoMtab  bool   `short:"n" hidden:""`
	Verbose bool   `short:"v" hidden:""`
	Type    string `short:"t" hidden:""`
}

// runLinked carries out the command line args if args[0] is one of overlayNames.
func runLinked(a *app, args []string) (status int, linked bool) {
	name := filepath.Base(args[0])
	failed, linked := overlayNames[name]
	if !linked {
		return 0, false
	}
	if status = a.exit(a.parseLinked(name, args[1:])); status == exitFailed {
		status = failed
	}
	return status, true
}

func (a *app) parseLinked(name string, args []string) (err error) {
	var c linkedOverlay
	parser, err := kong.New(&c, kong.Name(name), kong.Writers(a.stdout, a.stderr), kong.Exit(func(int) { panic(errShown) }))
	if err != nil {
		return err
	}
	if wantsVersion(args) { // before parsing, which wants a mount point
		// containers/storage shows this to its users; the first line is of fuse-overlayfs's form.
		_, err := fmt.Fprintf(a.stdout, "fuse-overlayfs: version 1.13 (mica %s)\n", version)
		return err
	}
	defer recoverShown(&err)
	if _, err = parser.Parse(args); err != nil {
		return usageOf(name, err)
	}
	if name == "mount.fuse.mica" && c.Foreground {
		return nil // mount(8): -f is a fake mount, without the system call
	}
	o, err := parseOverlayOptions(c.Options, c.Sloppy)
	if err != nil {
		return err
	}
	return c.mount(a, o)
}

func wantsVersion(args []string) bool {
	for _, arg := range args {
		switch {
		case arg == "-V", arg == "--version":
			return true
		case !strings.HasPrefix(arg, "-"):
			return false
		}
	}
	return false
}

func usageOf(name string, err error) error {
	if strings.HasPrefix(err.Error(), "expected ") {
		return errors.New("no mount point: " + name + " -o lowerdir=A:B,upperdir=U,workdir=W MOUNTPOINT")
	}
	return err
}
