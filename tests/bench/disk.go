package main

import (
	"errors"
	"os"
	"path/filepath"
)

const (
	diskSize   = "16G" // sparse
	diskInodes = "1000000"
)

// newDisk gives a folder on an ext4 filesystem of its own, in a file, with a journal. What writes is measured on one, and removes nothing until
// it is measured: ext4 keeps from reusing an inode number for a minute and more (recently_deleted in Linux's fs/ext4/ialloc.c), and
// looks at each such number whenever it needs one. On a disk where thousands of files have just been removed that is most of the time.
func (b *bench) newDisk(name string) (dir string, remove func() error, err error) {
	image, dir := filepath.Join(b.dir, name+".ext4"), filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, err
	}
	err = run("truncate", "--size", diskSize, image)
	if err == nil {
		err = run("mkfs.ext4", "-q", "-N", diskInodes, "-E", "lazy_itable_init=1", image)
	}
	if err == nil {
		err = run("mount", "-o", "loop,noinit_itable", image, dir)
	}
	return dir, func() error { return errors.Join(run("umount", dir), os.Remove(image)) }, err
}
