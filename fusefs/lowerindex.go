package fusefs

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/layers/index"
)

// An indexedLower is a layer whose metadata is in an index: only the contents of regular files are read from its folder.
type indexedLower struct {
	nr    int
	index *index.Index
	dir   int // O_PATH
}

func openIndexedLower(nr int, l Layer) (*indexedLower, error) {
	x, err := index.Open(l.Index)
	if err != nil {
		return nil, err
	}
	dir, err := unix.Open(l.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open layer", Path: l.Dir, Err: err}, x.Close())
	}
	return &indexedLower{nr: nr, index: x, dir: dir}, nil
}

func (l *indexedLower) number() int { return l.nr }

func (l *indexedLower) root() (lowerNode, error) {
	return lowerNode{layer: l, ino: uint64(index.Root), mode: unix.S_IFDIR}, nil
}

func (l *indexedLower) lookup(dir lowerNode, name string) (lowerNode, error) {
	e, err := l.index.Lookup(index.Ino(dir.ino), name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lowerNode{}, unix.ENOENT
	case err != nil:
		return lowerNode{}, err
	}
	return l.found(&e)
}

// found is what an entry of the layer says.
func (l *indexedLower) found(e *index.Entry) (lowerNode, error) {
	if e.Whiteout {
		return lowerNode{}, errWhiteout
	}
	return lowerNode{layer: l, ino: uint64(e.Ino), mode: e.Mode}, nil
}

// file is the inode i, which is no folder, and its first name.
func (l *indexedLower) file(i index.Ino) (p lowerNode, name string, err error) {
	a, err := l.index.Attr(i)
	if err != nil {
		return p, "", err
	}
	name, err = l.index.Name(i)
	return lowerNode{layer: l, ino: uint64(i), mode: a.Mode}, name, err
}

func (l *indexedLower) entries(dir lowerNode, yield func(lowerEntry)) error {
	for e, err := range l.index.Entries(index.Ino(dir.ino)) {
		if err != nil {
			return err
		}
		yield(lowerEntry{name: e.Name, ino: uint64(e.Ino), mode: e.Mode & unix.S_IFMT, whiteout: e.Whiteout})
	}
	return nil
}

func (l *indexedLower) attr(n lowerNode) (attributes, error) {
	a, err := l.index.Attr(index.Ino(n.ino))
	if err != nil {
		return attributes{}, err
	}
	t := unix.Timespec{Sec: a.Sec, Nsec: int64(a.Nsec)}
	return attributes{
		owner: owner{uid: a.UID, gid: a.GID, mode: a.Mode, rdev: uint32(unix.Mkdev(a.Major, a.Minor))},
		nlink: a.Nlink, size: a.Size, blocks: (a.Size + 511) / 512,
		atime: t, mtime: t, ctime: t, btime: t,
		opaque: a.Opaque, implied: a.Implied, mayHaveXattrs: a.HasXattrs,
	}, nil
}

func (l *indexedLower) readlink(n lowerNode) (string, error) {
	return l.index.Readlink(index.Ino(n.ino))
}

func (l *indexedLower) xattrs(n lowerNode) ([]xattrPair, error) {
	list, err := l.index.Xattrs(index.Ino(n.ino))
	if err != nil {
		return nil, err
	}
	pairs := make([]xattrPair, 0, len(list))
	for _, x := range list {
		pairs = append(pairs, xattrPair{name: x.Name, value: x.Value})
	}
	return pairs, nil
}

func (l *indexedLower) open(n lowerNode) (int, error) {
	path, err := l.index.Path(index.Ino(n.ino))
	if err != nil {
		return -1, err
	}
	return openStored(l.dir, path)
}

func (l *indexedLower) where(n lowerNode) (string, error) {
	return l.index.Path(index.Ino(n.ino))
}

func (l *indexedLower) close() error {
	return errors.Join(l.index.Close(), unix.Close(l.dir))
}
