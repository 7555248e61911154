package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/micavm/mica/launcher/spec"
	"github.com/micavm/mica/layers"
)

type pullCommand struct {
	Image  string `arg:"" help:"A registry reference, oci:DIR[:TAG] or docker-archive:FILE." placeholder:"REF"`
	Always bool   `help:"Ask the registry even when the image is here already."`
}

// Run prints the digest of the image that is ready.
func (c *pullCommand) Run(a *app) error {
	ref, err := spec.ParseImage(c.Image)
	if err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	policy := layers.IfMissing
	if c.Always {
		policy = layers.Always
	}
	image, err := a.pullImage(spec.AbsoluteImage(ref, cwd), policy)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, cmp.Or(image.Digest, image.Reference))
	return err
}
