package fusefs

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Export writes the upper to the folder dest, which has to be empty, so that kernel overlayfs mounted over the same layers with userxattr shows
// what the union does: a renamed folder becomes an opaque one that holds all that it shows, and no contents stay below. With
// realOwners the files have owner, mode and type themselves, which only root can do; else override_stat has them, as in the
// upper. What Export has written when it fails stays.
func (fs *FS) Export(dest string, realOwners bool) error {
	if fs.upper == nil {
		return fmt.Errorf("export to %s: the union has no upper", dest)
	}
	to, err := openFolder(dest, fs.fds)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer to.release()
	cfg := Upper{Dir: dest, RealOwners: realOwners, NoRedirect: true}
	x := exporter{fs: fs, root: to, out: upper{cfg: cfg, owners: newOwners(realOwners), root: to}, linked: make(map[uint64]string)}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	if err := x.folder(fs.root, to, "", false); err != nil {
		return err
	}
	if err := x.metadata(fs.root, spot{dir: to}); err != nil {
		return fmt.Errorf("export to %s: %w", dest, err)
	}
	return syncFolder(to)
}

// An exporter is one Export going on.
type exporter struct {
	fs     *FS
	root   *descriptor
	out    upper             // dest
	linked map[uint64]string // by inode number, the exported path of files with several names
}

// folder exports what is in d to the folder to, whose path is at: what the upper has, or everything that shows when whole.
func (x *exporter) folder(d *inode, to *descriptor, at string, whole bool) error {
	names, err := x.names(d, whole)
	if err != nil {
		return fmt.Errorf("export %s: %w", path.Join("/", at), err)
	}
	for _, name := range names {
		if err := x.name(d, name, to, path.Join(at, name), whole); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) names(d *inode, whole bool) (names []string, err error) {
	if whole {
		entries, err := d.merge()
		for _, e := range entries {
			names = append(names, e.name)
		}
		return names, err
	}
	fd, err := d.folderFD()
	if err != nil {
		return nil, err
	}
	defer fd.release()
	err = readFolder(spot{dir: fd}, func(name string, _ uint64, _ uint32) error {
		if !x.fs.upper.hides(name) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// name exports one name of d, and of a folder what is in it.
func (x *exporter) name(d *inode, name string, to *descriptor, at string, whole bool) error {
	fail := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("export /%s: %w", at, err)
	}
	if !whole {
		e, err := d.peekUpper(name)
		if err != nil {
			return fail(err)
		}
		if e.state == hidden {
			return fail(unix.Mknodat(to.fd, name, unix.S_IFCHR, 0))
		}
	}
	n, err := x.fs.lookup(d, name)
	if err != nil {
		return fail(err)
	}
	defer x.fs.unref(n, 1)
	s := spot{dir: to, name: name}
	if !n.isDir() {
		return fail(x.file(n, s, at))
	}
	sub, full, err := x.makeFolder(n, s)
	if err != nil {
		return fail(err)
	}
	defer sub.release()
	if err := x.folder(n, sub, at, whole || full); err != nil {
		return err
	}
	return fail(x.metadata(n, s))
}

// makeFolder makes an empty folder at s for n. It is full if all that n shows is to be in it: n was renamed.
func (x *exporter) makeFolder(n *inode, s spot) (sub *descriptor, full bool, err error) {
	if err := unix.Mkdirat(s.dir.fd, s.name, 0o700); err != nil {
		return nil, false, err
	}
	full = n.inUpper() && n.dir.moved && !n.dir.opaque
	if full || n.inUpper() && n.dir.opaque {
		if err := x.out.setOpaque(s); err != nil {
			return nil, false, err
		}
	}
	sub, err = x.fs.fds.wrap(openBeneath(s.dir.fd, s.name, unix.O_PATH|unix.O_DIRECTORY, 0))
	return sub, full, err
}

// file exports n, which is no folder, to s, whose path is at. The second name of a file is a link to the first.
func (x *exporter) file(n *inode, s spot, at string) error {
	if first, ok := x.linked[n.ino]; ok {
		return x.link(first, s)
	}
	a, err := n.stat()
	if err != nil {
		return err
	}
	if err := x.contents(n, s, a); err != nil {
		return err
	}
	if a.nlink > 1 {
		x.linked[n.ino] = at
	}
	return x.metadata(n, s)
}

func (x *exporter) link(first string, s spot) error {
	dir, name := splitPath(first)
	if dir == "" {
		dir = "."
	}
	fd, err := openBeneath(x.root.fd, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, name, s.dir.fd, s.name, 0)
}

// contents makes the file at s with the contents, or the target, that n has.
func (x *exporter) contents(n *inode, s spot, a attributes) error {
	if n.typ != unix.S_IFREG {
		var target []byte
		if n.typ == unix.S_IFLNK {
			var err error
			if target, err = n.readlink(); err != nil {
				return err
			}
		}
		here := upper{owners: x.out.owners, work: s.dir}
		return here.makeSpecial(s.name, a.owner, target)
	}
	from, err := n.openContents(unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.release()
	to, err := openBeneath(s.dir.fd, s.name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return copyFile(from.fd, to)
}

// metadata gives the file at s the attributes, the owner, the mode and the times of n.
func (x *exporter) metadata(n *inode, s spot) error {
	if err := x.xattrs(n, s); err != nil {
		return err
	}
	a, err := n.stat()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		return err
	}
	if err := x.out.owners.write(s, &st, a.owner); err != nil {
		return err
	}
	return s.utimes([2]unix.Timespec{a.atime, a.mtime})
}

func (x *exporter) xattrs(n *inode, s spot) error {
	names, err := n.listXattr()
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := n.getXattr(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		host, err := x.out.owners.hostXattr(name)
		if err != nil || host == "" {
			continue
		}
		if err := s.setxattr(host, value, 0); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func syncFolder(d *descriptor) error {
	fd, err := reopen(d.fd, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}
