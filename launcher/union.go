package launcher

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/guest-init/wire"
	"github.com/micavm/mica/initramfs"
)

// Compose opens the root of the plan: its layers, the synthetic layer, and upper, which is nil for a read-only one.
func Compose(p *Plan, upper *fusefs.Upper) (*fusefs.FS, error) {
	cfg := fusefs.Config{Upper: upper}
	for _, l := range p.Image.Layers {
		cfg.Layers = append(cfg.Layers, fusefs.Layer(l))
	}
	root, err := fusefs.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("compose root of %s: %w", p.Name, err)
	}
	if err := refresh(root, p); err != nil {
		root.Close()
		return nil, fmt.Errorf("compose root of %s: %w", p.Name, err)
	}
	return root, nil
}

// refresh gives root the synthetic layer of p.
func refresh(root *fusefs.FS, p *Plan) error {
	entries := Synthetic(p, root.ReadLower)
	// For a kernel that has no initramfs support. A program that was built without guest-init finds out when it needs it.
	if guestInit, err := initramfs.GuestInit(); err == nil {
		entries = append(entries, fusefs.SyntheticEntry{Path: wire.InitPath, Mode: unix.S_IFREG | 0o755, Data: guestInit})
	}
	slices.SortFunc(entries, func(a, b fusefs.SyntheticEntry) int { return strings.Compare(a.Path, b.Path) })
	return root.SetSynthetic(entries)
}

// A share is one file system for the guest.
type share struct {
	fs    *fusefs.FS
	mount wire.Mount
}

// compose opens the root and the volumes: the shares of a guest, the root first, volumes parents first.
func compose(p *Plan, upper *fusefs.Upper) ([]share, error) {
	root, err := Compose(p, upper)
	if err != nil {
		return nil, err
	}
	mounts := shareMounts(p)
	shares := []share{{root, mounts[0]}}
	for i, v := range byGuestPath(p.Volumes) {
		volume, err := fusefs.New(fusefs.Config{Upper: &fusefs.Upper{Dir: v.Host, Shared: true}})
		if err != nil {
			closeShares(shares)
			return nil, fmt.Errorf("open volume %s: %w", v.Host, err)
		}
		shares = append(shares, share{volume, mounts[i+1]})
	}
	return shares, nil
}

// shareMounts says where the guest has its shares.
func shareMounts(p *Plan) []wire.Mount {
	mounts := []wire.Mount{{Tag: wire.TagRoot, Path: "/", ReadOnly: p.ReadOnly}}
	for i, v := range byGuestPath(p.Volumes) {
		mounts = append(mounts, wire.Mount{Tag: fmt.Sprintf("mica-%d", i+1), Path: v.Guest, ReadOnly: v.ReadOnly})
	}
	return mounts
}

// byGuestPath sorts so that a folder comes before what is in it.
func byGuestPath(volumes []Volume) []Volume {
	return slices.SortedFunc(slices.Values(volumes), func(a, b Volume) int { return strings.Compare(a.Guest, b.Guest) })
}

func closeShares(shares []share) error {
	var first error
	for _, s := range shares {
		if err := s.fs.Close(); err != nil && first == nil {
			first = fmt.Errorf("close %s: %w", s.mount.Path, err)
		}
	}
	return first
}

// bootMessage is what the guest is told.
func bootMessage(p *Plan, shares []share) *wire.Boot {
	b := &wire.Boot{Root: shares[0].mount, Args: p.Args, Dir: p.Dir, User: p.User, Hostname: p.Hostname}
	for _, s := range shares[1:] {
		b.Volumes = append(b.Volumes, s.mount)
	}
	for _, v := range p.Env {
		b.Env = append(b.Env, v.Key+"="+v.Value)
	}
	return b
}
