package fusefs

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The copy of a file of several names gets all of them, and no rename does that at once. So the names are written down in
// the work folder first, beside the copy, which is renamed last: a copy that is still there after a crash takes the names
// that it has got with it.

const linksSuffix = ".links"

// noteLinks writes down, durably, what other names the copy gets: paths from the root, each with a NUL.
func (c *copyUp) noteLinks(places []place) error {
	var note strings.Builder
	for _, p := range places {
		path, err := p.path()
		if err != nil {
			return err
		}
		note.WriteString(path + "\x00")
	}
	u := c.inode.fs.upper
	fd, err := openBeneath(u.work.fd, c.name+linksSuffix, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), c.name+linksSuffix)
	defer f.Close()
	if _, err := f.WriteString(note.String()); err != nil {
		return err
	}
	return f.Sync()
}

func (c *copyUp) forgetLinks() {
	u := c.inode.fs.upper
	_ = unix.Unlinkat(u.work.fd, c.name+linksSuffix, 0)
}

// path is the place's path from the root. The caller holds the whole tree.
func (p place) path() (string, error) {
	path := p.name
	for d := p.parent; d != d.fs.root; {
		d.mu.RLock()
		places := d.places
		d.mu.RUnlock()
		if len(places) == 0 {
			return "", unix.ESTALE
		}
		path, d = joinPath(places[0].name, path), places[0].parent
	}
	return path, nil
}

// undoLinks takes back the names of the copies that a crash has left in the work folder.
func (u *upper) undoLinks(work *descriptor) error {
	fd, err := openBeneath(work.fd, workFolder, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	d := &descriptor{fd: fd, pool: &descriptors{}}
	d.refs.Store(1)
	defer d.release()
	return readFolder(spot{dir: d}, func(name string, _ uint64, _ uint32) error {
		copied, ok := strings.CutSuffix(name, linksSuffix)
		var st unix.Stat_t
		if !ok || (spot{dir: d, name: copied}).stat(&st) != nil {
			return nil
		}
		note, err := readNote(d, name)
		if err != nil {
			return err
		}
		for path := range strings.SplitSeq(note, "\x00") {
			if err := u.undoLink(path, &st); err != nil {
				return err
			}
		}
		return nil
	})
}

func readNote(d *descriptor, name string) (string, error) {
	fd, err := openRegular(d.fd, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	note, err := io.ReadAll(f)
	return string(note), err
}

// undoLink removes the upper's file at path if it is the one that st tells of.
func (u *upper) undoLink(path string, st *unix.Stat_t) error {
	dir, name := splitPath(path)
	if name == "" {
		return nil
	}
	if dir == "" {
		dir = "."
	}
	fd, err := openBeneath(u.root.fd, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil // it never had that name
	}
	defer unix.Close(fd)
	var found unix.Stat_t
	if unix.Fstatat(fd, name, &found, unix.AT_SYMLINK_NOFOLLOW) != nil || found.Ino != st.Ino {
		return nil
	}
	return unix.Unlinkat(fd, name, 0)
}
