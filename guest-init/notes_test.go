package main

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// notes is a system that writes down what was asked of it.
type notes struct {
	calls  []string
	root   int64            // type of /
	absent []string         // folders that are not there
	fail   map[string]error // by call
}

func newNotes() *notes { return &notes{root: unix.FUSE_SUPER_MAGIC, fail: map[string]error{}} }

func (n *notes) note(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	n.calls = append(n.calls, call)
	return n.fail[call]
}

func (n *notes) Mount(source, target, fstype string, flags uintptr, data string) error {
	switch {
	case flags&unix.MS_MOVE != 0:
		return n.note("move %s %s", source, target)
	case flags&unix.MS_REMOUNT != 0:
		return n.note("remount %s%s", target, readOnly(flags))
	}
	return n.note("mount %s %s %s%s", fstype, source, target, readOnly(flags))
}

func readOnly(flags uintptr) string {
	if flags&unix.MS_RDONLY != 0 {
		return " ro"
	}
	return ""
}

func (n *notes) FilesystemType(path string) (int64, error) { return n.root, nil }
func (n *notes) IsDir(path string) bool                    { return !slices.Contains(n.absent, path) }
func (n *notes) MkdirAll(path string) error                { return n.note("mkdir %s", path) }
func (n *notes) SetReadAhead(path string, kib int) error {
	return n.note("read ahead %s %d", path, kib)
}
func (n *notes) Unmount(target string) error       { return n.note("unmount %s", target) }
func (n *notes) Symlink(target, link string) error { return n.note("link %s %s", link, target) }
func (n *notes) Chdir(path string) error           { return n.note("chdir %s", path) }
func (n *notes) Chroot(path string) error          { return n.note("chroot %s", path) }
func (n *notes) SetHostname(name string) error     { return n.note("hostname %s", name) }
func (n *notes) LinkUp(name string) error          { return n.note("up %s", name) }
func (n *notes) KillAll(signal unix.Signal)        { n.note("kill %d", signal) }
func (n *notes) Sync()                             { n.note("sync") }
func (n *notes) Reboot()                           { n.note("reboot") }
