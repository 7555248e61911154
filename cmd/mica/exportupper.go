package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/launcher"
)

type exportUpperCommand struct {
	Words      []string `arg:"" name:"name" help:"NAME DEST: a sandbox of mica.toml, and the folder to write to; with -o only the folder."`
	Options    []string `short:"o" sep:"none" placeholder:"OPT,…" help:"lowerdir=A:B,upperdir=U,workdir=W: the folders of a sandbox's root, as mica overlay takes them."`
	File       string   `short:"f" help:"The configuration: mica.toml, or the folder it is in." placeholder:"FILE"`
	RealOwners bool     `help:"Write owners, modes, types and devices into the files themselves; only root can."`
}

// Help is the long text of mica export-upper --help.
func (exportUpperCommand) Help() string {
	return strings.Trim(`
What a sandbox has changed in its root is written to DEST in the form of kernel overlayfs. Renamed folders and files of which only the
metadata changed, which mica keeps in a form of its own, are written in full.

  mica export-upper NAME DEST
  mica export-upper -o lowerdir=B:A,upperdir=U,workdir=W DEST
  mount -t overlay -o lowerdir=B:A,upperdir=DEST,workdir=NEW,userxattr overlay MOUNTPOINT

Owners, modes and types stay in user.containers.override_stat, where container storage reads them, unless --real-owners is given.`, "\n")
}

// Run writes the upper. The sandbox cannot run meanwhile.
func (c *exportUpperCommand) Run(a *app) error {
	want := 2
	if len(c.Options) > 0 {
		want = 1
	}
	if len(c.Words) != want {
		return usage("export-upper takes NAME DEST, or -o lowerdir=A:B,upperdir=U,workdir=W DEST", "mica export-upper")
	}
	if c.RealOwners && os.Geteuid() != 0 {
		return errors.New("--real-owners changes owners, which only root may: leave it out, and override_stat has them")
	}
	config, done, err := c.union(a)
	if err != nil {
		return err
	}
	defer done()
	return exportUpper(config, c.Words[want-1], c.RealOwners)
}

// union is what is to be exported; done gives it back.
func (c *exportUpperCommand) union(a *app) (config fusefs.Config, done func(), err error) {
	if len(c.Options) == 0 {
		return sandboxUnion(a, which{File: c.File}, c.Words[0])
	}
	o, err := parseOverlayOptions(c.Options, false)
	if err != nil {
		return config, nil, err
	}
	if o.readOnly() {
		return config, nil, errors.New("no upperdir: give -o upperdir=U,workdir=W, the folders that a sandbox has written to")
	}
	config = o.union()
	config.RealOwners = false // a sandbox's
	config.Upper.RealOwners = false
	return config, func() {}, nil
}

// sandboxUnion is the root of a sandbox that does not run, without the files that mica adds, which no layer of its image has.
func sandboxUnion(a *app, w which, name string) (fusefs.Config, func(), error) {
	t, err := w.target(name)
	if err != nil {
		return fusefs.Config{}, nil, err
	}
	image, defaults, err := a.pull(t.reference)
	if err != nil {
		return fusefs.Config{}, nil, err
	}
	t.request.Script = "shell" // nothing runs
	p, err := launcher.NewPlan(t.request, image, defaults)
	if err != nil {
		return fusefs.Config{}, nil, err
	}
	if _, err := os.Stat(filepath.Join(p.Upper, "upper")); p.Upper == "" || err != nil {
		return fusefs.Config{}, nil, fmt.Errorf("sandbox %s has no upper: it has not run yet, or is read_only", name)
	}
	home, err := launcher.OpenHome(p)
	if err != nil {
		return fusefs.Config{}, nil, err
	}
	config := fusefs.Config{Upper: home.Upper}
	for _, l := range p.Image.Layers {
		config.Layers = append(config.Layers, fusefs.Layer(l))
	}
	return config, home.Close, nil
}

func exportUpper(config fusefs.Config, dest string, realOwners bool) (err error) {
	if err := os.Mkdir(dest, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dest)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: name a new folder", dest)
	}
	unix.Umask(0) // modes are the sandbox's
	union, err := fusefs.New(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, union.Close()) }()
	return union.Export(dest, realOwners)
}
