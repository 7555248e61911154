package main

import (
	"context"
	"os"
)

const description = `
mica runs untrusted code in a microVM whose root filesystem is composed live out of image layers.

  mica run --image debian:stable-slim -- /bin/sh -c 'uname -a'
  mica init && mica run dev

The exit status of run is the command's; 125 says that mica itself failed, 126 that the command could not be executed, 127 that it was
not found, and 128+N that signal N ended it. Every other command ends with 0, or with 125 when it failed.
`

// cli is the command line: a verb, and what all verbs take.
type cli struct {
	Quiet bool `short:"q" help:"Say nothing but errors."`
	Debug bool `help:"Say what mica does, step by step."`

	Run         runCommand         `cmd:"" help:"Run a sandbox of mica.toml, or a throw-away one of an image."`
	Ls          lsCommand          `cmd:"" help:"List the sandboxes that run."`
	Stop        stopCommand        `cmd:"" help:"Stop a running sandbox."`
	Rm          rmCommand          `cmd:"" help:"Remove what a sandbox has changed in its root, and its logs."`
	Mount       mountCommand       `cmd:"" help:"Show the root of a sandbox, running or not, on a folder of the host."`
	Umount      umountCommand      `cmd:"" help:"End a mount."`
	Overlay     overlayCommand     `cmd:"" help:"Mount folders as one, as fuse-overlayfs does."`
	ExportUpper exportUpperCommand `cmd:"" help:"Write what a sandbox has changed in the form of kernel overlayfs."`
	Pull        pullCommand        `cmd:"" help:"Make an image ready, and print its digest."`
	Init        initCommand        `cmd:"" help:"Write a commented mica.toml."`
	Doctor      doctorCommand      `cmd:"" help:"Say what is here, what is missing, and the command that mends it."`
	Version     versionCommand     `cmd:"" help:"Say which mica this is."`
}

// app is what every verb works with.
type app struct {
	ctx            context.Context
	stdin          *os.File
	stdout, stderr *os.File
	args           []string // after --; nil when there was none
	quiet, debug   bool
}
