package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/micavm/mica/launcher/spec"
)

type initCommand struct {
	Folder string `arg:"" optional:"" default:"." help:"The project's folder." placeholder:"FOLDER"`
}

// Run writes the template, and never over a file that is there.
func (c *initCommand) Run(a *app) error {
	path := filepath.Join(c.Folder, spec.FileName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: edit it, or remove it first", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(spec.Template)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	a.say("wrote %s: mica run dev starts its sandbox", path)
	return nil
}
