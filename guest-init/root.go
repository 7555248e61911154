package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// newRoot is where the initramfs has the root before it becomes one.
const newRoot = "/root"

// enterRoot makes m the root of this process and its children.
func enterRoot(sys system, m wire.Mount) error {
	fstype, err := sys.FilesystemType("/")
	if err != nil {
		return fmt.Errorf("look at /: %w", err)
	}
	if fstype == unix.FUSE_SUPER_MAGIC {
		// A kernel without initramfs support has mounted it, read-only unless its command line says otherwise.
		if err := sys.Mount("", "/", "", unix.MS_REMOUNT|readOnlyFlag(m), ""); err != nil {
			return fmt.Errorf("remount root: %w", err)
		}
		return nil
	}
	if err := sys.Mount(m.Tag, newRoot, "virtiofs", readOnlyFlag(m), ""); err != nil {
		return fmt.Errorf("mount root: %w", tagError(m.Tag, err))
	}
	for _, early := range earlyMounts {
		if err := sys.Mount(early.target, newRoot+early.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s into the root: %w", early.target, err)
		}
	}
	return switchRoot(sys)
}

// switchRoot covers the initramfs by the new root: pivot_root(2) does not work on it.
func switchRoot(sys system) error {
	if err := sys.Chdir(newRoot); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := sys.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := sys.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := sys.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}
