package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests run guest-init's own code as PID 1 of new namespaces: this program again, with a socket in place of the control port.
// asGuest says which guest it is: one whose root is there already (session), or one that has all to mount (machine).
const (
	asGuest   = "MICA_TEST_AS_GUEST"
	sharesVar = "MICA_TEST_SHARES" // tag=folder, separated by colons
)

// restarted is the status of a guest that did not come to its end, but gave up.
const restarted = 9

func TestMain(m *testing.M) {
	kind := os.Getenv(asGuest)
	if kind == "" {
		os.Exit(m.Run())
	}
	if os.Getpid() != 1 { // it would kill everything
		panic("a guest is PID 1")
	}
	catchSignals()
	var sys system
	if kind == "machine" {
		sys = newMachine(os.Getenv(sharesVar))
	} else {
		sys = newNamespaces()
	}
	os.Unsetenv(asGuest)
	guard(sys, func() {
		if err := attend(sys, os.NewFile(3, "control")); err != nil {
			panic(err)
		}
	})
	os.Exit(0)
}

// namespaces is a system that changes nothing but processes.
type namespaces struct{ *notes }

func newNamespaces() namespaces {
	if err := mountAll(linux{}, earlyMounts[1:2]); err != nil { // proc
		panic(err)
	}
	return namespaces{newNotes()}
}

func (namespaces) KillAll(signal unix.Signal) { linux{}.KillAll(signal) }
func (namespaces) Reboot()                    { os.Exit(restarted) }

// machine is a system that mounts what a guest would, with bind mounts of folders in place of virtiofs.
type machine struct {
	linux
	shares map[string]int // by tag
}

func newMachine(shares string) machine {
	m := machine{shares: map[string]int{}}
	for _, share := range strings.Split(shares, ":") {
		tag, folder, _ := strings.Cut(share, "=")
		fd, err := unix.Open(folder, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		m.shares[tag] = fd
	}
	if err := mountAll(m, earlyMounts); err != nil {
		panic(err)
	}
	return m
}

func (machine) FilesystemType(string) (int64, error) { return unix.RAMFS_MAGIC, nil } // like an initramfs
func (machine) SetReadAhead(string, int) error       { return nil }                   // it would be the host's
func (machine) Sync()                                {}
func (machine) Reboot()                              { os.Exit(restarted) }

func (m machine) Mount(source, target, fstype string, flags uintptr, data string) error {
	switch fstype {
	case "virtiofs":
		fd, ok := m.shares[source]
		if !ok {
			return unix.EINVAL
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
	case "devtmpfs": // there is one for the whole host
		if err := unix.Mount("tmpfs", target, "tmpfs", flags, data); err != nil {
			return err
		}
		for name, minor := range map[string]uint32{"null": 3, "zero": 5} {
			makeDevice(filepath.Join(target, name), 1, minor)
		}
		for name, minor := range map[string]uint32{"tty": 0, "console": 1, "ptmx": 2} {
			makeDevice(filepath.Join(target, name), 5, minor)
		}
		return nil
	}
	return unix.Mount(source, target, fstype, flags, data)
}

func makeDevice(path string, major, minor uint32) {
	if err := unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(major, minor))); err != nil {
		panic(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // whatever the umask
		panic(err)
	}
}
