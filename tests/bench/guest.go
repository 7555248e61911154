package main

import (
	"errors"
	"fmt"
	"time"
)

// virtiofsdOverlay is mica's peer in a guest.
const virtiofsdOverlay = "virtiofsd over kernel overlayfs"

// guestRounds are the most: nearly all of it is emulated.
const guestRounds = 3

// guest measures two shares of one machine: mica's own vhost-user back end, as mica run has it, and virtiofsd.
func (b *bench) guest() (err error) {
	g, err := b.bootGuest()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	if _, err := g.order(makeArchive); err != nil {
		return err
	}
	shares := []union{{name: "mica", dir: "/mica"}, {name: virtiofsdOverlay, dir: "/virtiofsd"}}
	making, removing := guestWorks(g)
	for _, works := range [][]work{making, removing} {
		rows, err := measureWorks(works, shares, min(b.rounds, guestRounds))
		if err != nil {
			return err
		}
		b.add(rows...)
	}
	return nil
}

// guestFiles is how many small files the guest has in its archive, 1000 bytes each in 20 folders.
const guestFiles = 1000

// makeArchive makes the archive in the guest's memory.
var makeArchive = fmt.Sprintf(`mkdir small && cd small && mkdir $(seq 0 19) && text=$(printf %%0999d 0) && `+
	`for i in $(seq %d); do echo "$text" >$((i %% 20))/$i; done && cd .. && tar -cf small.tar small && rm -r small`, guestFiles)

// forgetInGuest drops names, inodes and pages; what the servers hear of it they have done a second later.
const forgetInGuest = "echo 3 >/proc/sys/vm/drop_caches; sleep 1"

// guestWorks use the image's own programs; what removes files comes last.
func guestWorks(g *guest) (making, removing []work) {
	do := func(before, script string) func(dir string) (time.Duration, error) {
		return func(dir string) (time.Duration, error) {
			if _, err := g.order("set -- " + dir + "; " + before); err != nil {
				return 0, err
			}
			return g.order("set -- " + dir + "; " + script)
		}
	}
	at := func(ratio float64) map[string]float64 { return map[string]float64{virtiofsdOverlay: ratio} }
	const find = `chroot $1 find / -xdev -printf ""`
	const large = 256 // MiB
	making = []work{
		{"guest: find -printf, cold", false, do(forgetInGuest, find), at(0.75)},
		{"guest: find -printf, warm", false, do("", find), at(1)},
		{"guest: tar of /usr/lib to a pipe, cold", false, do(forgetInGuest, `chroot $1 tar -cf - /usr/lib | cat >/dev/null`), at(0.8)},
		{fmt.Sprintf("guest: untar of %d small files", guestFiles), false, do("", `chroot $1 sh -c 'cd $(mktemp -d /small-XXXXXX) && tar -xf -' <small.tar`), at(0.8)},
		{fmt.Sprintf("guest: write of %d MiB", large), false, do("rm -f $1/large", fmt.Sprintf(`chroot $1 dd if=/dev/zero of=large bs=1M count=%d`, large)), at(1)},
		{fmt.Sprintf("guest: read of %d MiB, cold", large), false, do(forgetInGuest, `chroot $1 dd if=large of=/dev/null bs=1M`), at(1)},
	}
	removing = []work{
		{"guest: rm -rf of the small files", false, do("", `chroot $1 sh -c 'set -- /small-*; rm -rf "$1"'`), at(0.8)},
	}
	return making, removing
}
