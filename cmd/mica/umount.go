package main

import (
	"errors"

	"github.com/micavm/mica/launcher"
)

type umountCommand struct {
	Mountpoints []string `arg:"" name:"mountpoint" help:"Folders that mica mount has mounted on."`
	Lazy        bool     `help:"Detach also what is in use."`
}

// Run unmounts all of them that it can.
func (c *umountCommand) Run(*app) error {
	var errs []error
	for _, dir := range c.Mountpoints {
		errs = append(errs, launcher.Unmount(dir, c.Lazy))
	}
	return errors.Join(errs...)
}
