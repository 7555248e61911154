package fusefs

import (
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// RemoveTree removes the folder at path and all beneath it, whatever its modes are, following nothing. The error is unix.EXDEV or
// unix.EBUSY, in an fs.PathError, where something is mounted.
//
// A guest can make folders in folders without end: no path reaches the last, nor are there descriptors for all. So no more than two
// are open at a time, and folders in folders are moved to the top.
func RemoveTree(path string) error {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = removeTree(fd, name)
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// removeTree is RemoveTree of name in dir.
func removeTree(dir int, name string) error {
	done, err := removeOne(dir, name)
	if done || err != nil {
		return err
	}
	top, err := openToEmpty(dir, name)
	if err != nil {
		return err
	}
	defer top.release()
	r := treeRemover{top: top}
	for r.found = true; r.found; {
		r.found = false
		if err := readFolder(spot{dir: top}, r.remove); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

type treeRemover struct {
	top   *descriptor
	found bool // in this pass over the top folder
	moved int  // names the folders that have come to it
}

// remove removes a name in the top folder.
func (r *treeRemover) remove(name string, _ uint64, _ uint32) error {
	r.found = true
	done, err := removeOne(r.top.fd, name)
	if done || err != nil {
		return err
	}
	d, err := openToEmpty(r.top.fd, name)
	if err != nil {
		return err
	}
	defer d.release()
	err = readFolder(spot{dir: d}, func(name string, _ uint64, _ uint32) error {
		done, err := removeOne(d.fd, name)
		if done || err != nil {
			return err
		}
		return r.moveUp(d.fd, name)
	})
	if err != nil {
		return err
	}
	return unix.Unlinkat(r.top.fd, name, unix.AT_REMOVEDIR)
}

// moveUp moves the folder name of dir to the top, under a name that is free there.
func (r *treeRemover) moveUp(dir int, name string) error {
	if err := makeWritable(dir, name); err != nil { // it gets another ".."
		return err
	}
	for {
		r.moved++
		err := unix.Renameat2(dir, name, r.top.fd, strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err
		}
	}
}

// removeOne removes name in dir, but for a folder that is not empty.
func removeOne(dir int, name string) (done bool, err error) {
	err = unix.Unlinkat(dir, name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	switch err {
	case nil, unix.ENOENT:
		return true, nil
	case unix.ENOTEMPTY, unix.EEXIST:
		return false, nil
	}
	return false, err
}

// openToEmpty opens the folder name of dir, which its owner may change from now on.
func openToEmpty(dir int, name string) (*descriptor, error) {
	if err := makeWritable(dir, name); err != nil {
		return nil, err
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d := &descriptor{fd: fd, pool: &descriptors{}}
	d.refs.Store(1)
	return d, nil
}

func makeWritable(dir int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o700 != 0o700 {
		return unix.Fchmodat(dir, name, 0o700, 0)
	}
	return err
}
