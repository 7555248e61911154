package fusefs

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// A folderLower is a plain folder as a layer: every look-up is the disk's. It reads the whiteouts and opaque marks of
// kernel overlayfs (with and without userxattr), of fuse-overlayfs and of AUFS (.wh.).
type folderLower struct {
	nr     int
	dir    int // O_PATH
	pool   *descriptors
	owners owners
}

func openFolderLower(nr int, l Layer, pool *descriptors, w owners) (*folderLower, error) {
	dir, err := unix.Open(l.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open layer", Path: l.Dir, Err: err}
	}
	return &folderLower{nr: nr, dir: dir, pool: pool, owners: w}, nil
}

func (l *folderLower) number() int { return l.nr }

func (l *folderLower) root() (lowerNode, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(l.dir, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return lowerNode{}, err
	}
	return lowerNode{layer: l, ino: st.Ino, mode: st.Mode}, nil
}

// folder opens the folder that holds n, as an O_PATH descriptor.
func (l *folderLower) parent(path string) (spot, error) {
	dir, name := splitPath(path)
	if dir == "" {
		dir = "."
	}
	d, err := l.pool.wrap(openBeneath(l.dir, dir, unix.O_PATH|unix.O_DIRECTORY, 0))
	return spot{dir: d, name: name}, err
}

// at opens the file at path itself, as an O_PATH descriptor: "" is the root.
func (l *folderLower) at(path string) (spot, error) {
	if path == "" {
		path = "."
	}
	d, err := l.pool.wrap(openBeneath(l.dir, path, unix.O_PATH, 0))
	return spot{dir: d}, err
}

func (l *folderLower) lookup(dir lowerNode, name string) (lowerNode, error) {
	if strings.HasPrefix(name, whPrefix) {
		return lowerNode{}, unix.ENOENT
	}
	path := joinPath(dir.path, name)
	s, err := l.parent(path)
	if err != nil {
		return lowerNode{}, err
	}
	defer s.release()
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		if err == unix.ENOENT && existsAt(s.dir.fd, whPrefix+name) {
			return lowerNode{}, errWhiteout
		}
		return lowerNode{}, err
	}
	if isWhiteout(&st) || (st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 && hasWhiteoutXattr(s)) {
		return lowerNode{}, errWhiteout
	}
	o, err := l.owners.read(s, &st)
	if err != nil {
		return lowerNode{}, err
	}
	return lowerNode{layer: l, ino: st.Ino, path: path, mode: o.mode}, nil
}

func (l *folderLower) entries(dir lowerNode, yield func(lowerEntry)) error {
	s, err := l.at(dir.path)
	if err != nil {
		return err
	}
	defer s.release()
	return readFolder(s, func(name string, ino uint64, kind uint32) error {
		if hidden, ok := strings.CutPrefix(name, whPrefix); ok {
			if name != whOpaque && hidden != "" {
				yield(lowerEntry{name: hidden, whiteout: true})
			}
			return nil
		}
		e := lowerEntry{name: name, ino: ino, mode: kind}
		if kind == unix.S_IFCHR || kind == unix.S_IFREG || kind == 0 {
			// It may be a whiteout, or an override_stat may give it another type.
			n, err := l.lookup(dir, name)
			switch {
			case err == errWhiteout:
				e.whiteout = true
			case err == unix.ENOENT:
				return nil
			case err != nil:
				return err
			default:
				e.mode = n.mode & unix.S_IFMT
			}
		}
		yield(e)
		return nil
	})
}

func (l *folderLower) attr(n lowerNode) (attributes, error) {
	s, err := l.at(n.path)
	if err != nil {
		return attributes{}, err
	}
	defer s.release()
	var stx unix.Statx_t
	if err := unix.Statx(s.dir.fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stx); err != nil {
		return attributes{}, err
	}
	st := statOf(&stx)
	if st.Ino != n.ino {
		return attributes{}, unix.ESTALE
	}
	o, err := l.owners.read(s, &st)
	if err != nil {
		return attributes{}, err
	}
	a := attributes{
		owner: o, nlink: stx.Nlink, size: stx.Size, blocks: stx.Blocks,
		atime: timespec(stx.Atime), mtime: timespec(stx.Mtime), ctime: timespec(stx.Ctime), btime: timespec(stx.Btime),
		mayHaveXattrs: true,
	}
	if o.mode&unix.S_IFMT == unix.S_IFDIR {
		a.opaque = isOpaque(s) || existsAt(s.dir.fd, whOpaque)
	}
	return a, nil
}

func (l *folderLower) readlink(n lowerNode) (string, error) {
	s, err := l.at(n.path)
	if err != nil {
		return "", err
	}
	defer s.release()
	return readlinkAt(s)
}

func (l *folderLower) xattrs(n lowerNode) ([]xattrPair, error) {
	of := l.parent
	if n.path == "" {
		of = l.at
	}
	s, err := of(n.path)
	if err != nil {
		return nil, err
	}
	defer s.release()
	names, err := s.listxattr()
	if err != nil {
		if isNoXattr(err) {
			return nil, nil
		}
		return nil, err
	}
	var pairs []xattrPair
	for name := range xattrNames(names) {
		value, err := s.getxattr(name)
		if err != nil {
			if isNoXattr(err) {
				continue
			}
			return nil, err
		}
		pairs = append(pairs, xattrPair{name: name, value: value})
	}
	return pairs, nil
}

func (l *folderLower) open(n lowerNode) (int, error) {
	return openRegular(l.dir, n.path, unix.O_RDONLY)
}

func (l *folderLower) where(n lowerNode) (string, error) { return n.path, nil }

func (l *folderLower) close() error {
	if err := unix.Close(l.dir); err != nil {
		return errors.Join(errors.New("close layer"), err)
	}
	return nil
}
