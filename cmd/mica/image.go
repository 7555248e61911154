package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/layers"
)

// pull makes the image that ref names ready, and says what the launcher wants to know of it.
func (a *app) pull(ref string) (launcher.Image, launcher.ImageDefaults, error) {
	image, err := a.pullImage(ref, layers.IfMissing)
	if err != nil {
		return launcher.Image{}, launcher.ImageDefaults{}, err
	}
	out := launcher.Image{Reference: image.Reference, Digest: image.Digest}
	for _, l := range image.Layers {
		out.Layers = append(out.Layers, launcher.Layer{Dir: l.Dir, Index: l.Index})
	}
	c := image.Config
	return out, launcher.ImageDefaults{Env: c.Env, Dir: c.Dir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd}, nil
}

// pullImage shows progress, and stops cleanly on Ctrl-C: what was downloaded is there for the next time.
func (a *app) pullImage(ref string, policy layers.Policy) (*layers.Image, error) {
	ctx, stop := signal.NotifyContext(a.ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	store, err := layers.OpenStore(dataDir(), cacheDir())
	if err != nil {
		return nil, err
	}
	p := newProgress(a)
	image, err := store.PullPolicy(ctx, ref, policy, p.event)
	p.end()
	if ctx.Err() != nil && a.ctx.Err() == nil {
		return nil, context.Cause(ctx)
	}
	return image, err
}
