package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// unpack measures unpacking of the Debian image into an empty store.
func (b *bench) unpack() (err error) {
	disk, remove, err := b.newDisk("unpack")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	fresh := func(unpack func(into string) (time.Duration, error)) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			into, err := os.MkdirTemp(disk, "into-")
			if err != nil {
				return 0, err
			}
			if err := run("sync"); err != nil { // what others left to write is not this side's
				return 0, err
			}
			return unpack(into)
		}
	}
	const umoci = "umoci unpack"
	r, err := measure("unpack of the Debian image", b.rounds, map[string]func() (time.Duration, error){
		"mica": fresh(func(into string) (time.Duration, error) {
			store := b.program
			store.dir = into
			return timed(store.command("pull", store.image("debian")))
		}),
		umoci: fresh(func(into string) (time.Duration, error) {
			return timed(exec.Command("umoci", "unpack", "--image", filepath.Join(b.cache, "images", "debian")+":latest", filepath.Join(into, "bundle")))
		}),
	}, "mica", umoci)
	r.targets = map[string]float64{umoci: 0.6}
	b.add(r)
	return err
}
