package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// A mountPoint is one entry of a mount table. One that is not required is left out where its folder or its file system is missing.
type mountPoint struct {
	fstype   string
	target   string
	flags    uintptr
	data     string
	create   bool // make the folder
	required bool
}

const hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// earlyMounts are what finding the control port takes. They move into the root later.
var earlyMounts = []mountPoint{
	{fstype: "devtmpfs", target: "/dev", flags: unix.MS_NOSUID, data: "mode=0755", required: true},
	{fstype: "proc", target: "/proc", flags: hardened, required: true},
	{fstype: "sysfs", target: "/sys", flags: hardened, required: true},
}

// lateMounts are the rest of what programs expect. /tmp is not among them: what a guest leaves there stays in its root.
var lateMounts = []mountPoint{
	{fstype: "devpts", target: "/dev/pts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "gid=5,mode=620,ptmxmode=666", create: true},
	{fstype: "tmpfs", target: "/dev/shm", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777", create: true},
	{fstype: "mqueue", target: "/dev/mqueue", flags: hardened, create: true},
	{fstype: "tmpfs", target: "/run", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755"},
	{fstype: "cgroup2", target: "/sys/fs/cgroup", flags: hardened},
}

// deviceLinks are what devtmpfs leaves to user space.
var deviceLinks = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

func mountAll(sys system, table []mountPoint) error {
	for _, m := range table {
		if m.create {
			sys.MkdirAll(m.target) // what matters is whether it can be mounted
		}
		if !m.required && !sys.IsDir(m.target) {
			continue
		}
		err := sys.Mount(m.fstype, m.target, m.fstype, m.flags, m.data)
		if err == unix.EBUSY { // the kernel has mounted it already
			err = nil
		}
		if err != nil && m.required {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// furnish makes the file systems, the name and the loopback device that boot asks for.
func furnish(sys system, boot *wire.Boot) error {
	if err := enterRoot(sys, boot.Root); err != nil {
		return err
	}
	if err := mountAll(sys, lateMounts); err != nil {
		return err
	}
	for _, l := range deviceLinks {
		sys.Symlink(l[0], l[1]) // a guest without them still runs
	}
	for _, v := range boot.Volumes {
		if err := mountVolume(sys, v); err != nil {
			return err
		}
	}
	readAhead(sys, boot)
	if boot.Hostname != "" {
		if err := sys.SetHostname(boot.Hostname); err != nil {
			return fmt.Errorf("set hostname %s: %w", boot.Hostname, err)
		}
	}
	if err := sys.LinkUp("lo"); err != nil {
		complain(fmt.Errorf("set lo up: %w", err)) // a kernel without networking has none
	}
	return nil
}

// readAheadKiB is what one request of virtiofs can read: of the kernel's own 128 KiB, each would be eight.
const readAheadKiB = 1024

func readAhead(sys system, boot *wire.Boot) {
	for _, m := range append([]wire.Mount{boot.Root}, boot.Volumes...) {
		sys.SetReadAhead(m.Path, readAheadKiB) // a guest without still reads
	}
}

func mountVolume(sys system, v wire.Mount) error {
	if !sys.IsDir(v.Path) {
		if err := sys.MkdirAll(v.Path); err != nil { // a mount point inside /run, which is new
			return fmt.Errorf("mount volume: %w", err)
		}
	}
	if err := sys.Mount(v.Tag, v.Path, "virtiofs", readOnlyFlag(v), ""); err != nil {
		return fmt.Errorf("mount volume %s: %w", v.Path, tagError(v.Tag, err))
	}
	return nil
}

func readOnlyFlag(m wire.Mount) uintptr {
	if m.ReadOnly {
		return unix.MS_RDONLY
	}
	return 0
}

// tagError says what the kernel means by EINVAL.
func tagError(tag string, err error) error {
	if err == unix.EINVAL {
		return fmt.Errorf("no virtiofs device has the tag %s", tag)
	}
	return err
}
