package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// unpack measures unpacking of the Debian image into an empty store.
func (b *bench) unpack() error {
	into := filepath.Join(b.dir, "unpack")
	store := b.program
	store.dir = filepath.Join(into, "store")
	fresh := func(unpack func() (time.Duration, error)) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			if err := os.RemoveAll(into); err != nil {
				return 0, err
			}
			if err := os.Mkdir(into, 0o755); err != nil {
				return 0, err
			}
			if err := run("sync"); err != nil { // what others left to write is not this side's
				return 0, err
			}
			return unpack()
		}
	}
	const umoci = "umoci unpack"
	r, err := measure("unpack of the Debian image", b.rounds, map[string]func() (time.Duration, error){
		"mica": fresh(func() (time.Duration, error) {
			return timed(store.command("pull", store.image("debian")))
		}),
		umoci: fresh(func() (time.Duration, error) {
			return timed(exec.Command("umoci", "unpack", "--image", filepath.Join(b.cache, "images", "debian")+":latest", filepath.Join(into, "bundle")))
		}),
	}, "mica", umoci)
	r.targets = map[string]float64{umoci: 0.6}
	b.add(r)
	return err
}
