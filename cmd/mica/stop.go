package main

import (
	"errors"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/micavm/mica/launcher"
)

type stopCommand struct {
	Names []string `arg:"" name:"name" help:"Sandboxes that run: mica ls lists them."`
	File  string   `short:"f" help:"The configuration whose sandbox is meant, when several projects have one of that name." placeholder:"FILE"`
}

// Run stops all of them that it can, and waits for their ends.
func (c *stopCommand) Run(a *app) error {
	ctx, stop := signal.NotifyContext(a.ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	project := ""
	if c.File != "" {
		path, err := configuration(c.File)
		if err != nil {
			return err
		}
		if project, err = projectOf(path); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range c.Names {
		errs = append(errs, launcher.Stop(ctx, name, project))
	}
	return errors.Join(errs...)
}

// projectOf is the folder of mica.toml, as a plan has it.
func projectOf(configuration string) (string, error) {
	abs, err := filepath.Abs(configuration)
	return filepath.Dir(abs), err
}
