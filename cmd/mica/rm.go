package main

import (
	"errors"

	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/launcher/spec"
)

type rmCommand struct {
	Names []string `arg:"" name:"name" help:"Sandboxes of the project."`
	File  string   `short:"f" help:"The configuration: mica.toml, or the folder it is in." placeholder:"FILE"`
}

// Run removes all of them that it can. A sandbox that has left mica.toml can be removed too, so the file is only looked for, not read.
func (c *rmCommand) Run(a *app) error {
	path, err := configuration(c.File)
	if err != nil {
		return err
	}
	project, err := projectOf(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range c.Names {
		if err := spec.CheckName(name); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, launcher.Remove(a.ctx, name, project))
	}
	return errors.Join(errs...)
}
