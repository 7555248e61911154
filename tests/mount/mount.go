package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Mount is a union that is mounted.
type Mount interface {
	Dir() string    // where
	Remount() error // unmounts and mounts again; nothing may be open in it
	Close() error   // unmounts
}

// A Stack is what a union is made of.
type Stack struct {
	Lower   []string // folders, the bottom first
	Indexes []string // one of layers/index for each of Lower; none: the folders hold the metadata. Kernel overlayfs needs none.
	Upper   string
	Work    string

	Passthrough bool // of mica: see fusefs.ConnectOptions
}

// An Overlay is kernel overlayfs.
type Overlay struct {
	dir     string
	options string
}

// NewOverlay mounts s at dir; options go after those that name the layers.
func NewOverlay(s Stack, dir, options string) (*Overlay, error) {
	var lower []string
	for i := len(s.Lower) - 1; i >= 0; i-- {
		lower = append(lower, s.Lower[i])
	}
	o := &Overlay{dir: dir, options: fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,%s", strings.Join(lower, ":"), s.Upper, s.Work, options)}
	return o, o.mount()
}

func (o *Overlay) mount() error {
	// As mica's mounts are, but for the times of access, which would change lower files.
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	err := patiently(func() error { return unix.Mount("overlay", o.dir, "overlay", flags, o.options) })
	if err != nil {
		return fmt.Errorf("mount overlay -o %s: %w", o.options, err)
	}
	return nil
}

// Dir is where it is mounted.
func (o *Overlay) Dir() string { return o.dir }

// Remount unmounts it and mounts it again.
func (o *Overlay) Remount() error {
	if err := o.Close(); err != nil {
		return err
	}
	return o.mount()
}

// Close unmounts it.
func (o *Overlay) Close() error { return unmount(o.dir) }

func unmount(dir string) error {
	if err := patiently(func() error { return unix.Unmount(dir, 0) }); err != nil {
		return &os.PathError{Op: "unmount", Path: dir, Err: err}
	}
	return nil
}

// patiently calls f until it is not EBUSY: what a killed process had open closes a little later.
func patiently(f func() error) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
