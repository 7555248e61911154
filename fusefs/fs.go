package fusefs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// An FS is the union. Front ends reach it through Connections.
type FS struct {
	cfg    Config
	layers []lower // top to bottom
	upper  *upper  // nil: read-only
	fds    *descriptors
	table  table
	memory memory
	root   *inode
	folder folderCache
	open   openUppers

	// tree is held for reading by everything that uses or changes names, and for writing by rename, which alone moves
	// folders: so under it, where a file is does not change but by one's own doing. It is never taken twice by one request.
	tree sync.RWMutex

	synthetic atomic.Pointer[syntheticTree]
	groups    linkGroups
	conns     connections
}

// New opens the layers and the upper of cfg, and removes what a crash left in the work folder.
func New(cfg Config) (_ *FS, err error) {
	fs := &FS{cfg: cfg, fds: newDescriptors()}
	fs.table.inodes = make(map[key]*inode)
	fs.memory.max = cmp.Or(cfg.Remembered, DefaultRemembered)
	fs.open.of = make(map[*inode]*descriptor)
	fs.conns.open = make(map[*Connection]struct{})
	fs.folder.limit = max(16, min(1024, int(fs.fds.limit.Load()/8)))
	defer func() {
		if err != nil {
			err = errors.Join(err, fs.Close())
		}
	}()
	if err := fs.openLayers(); err != nil {
		return nil, err
	}
	if err := fs.SetSynthetic(cfg.Synthetic); err != nil {
		return nil, err
	}
	if cfg.Upper != nil {
		if fs.upper, err = openUpper(*cfg.Upper, fs.fds); err != nil {
			return nil, err
		}
	}
	if fs.root, err = fs.openRoot(); err != nil {
		return nil, fmt.Errorf("open root folder: %w", err)
	}
	return fs, nil
}

func (fs *FS) openLayers() error {
	w := newOwners(fs.cfg.RealOwners || fs.cfg.Upper != nil && fs.cfg.Upper.RealOwners)
	for i, l := range fs.cfg.Layers {
		var low lower
		var err error
		if l.Index != "" {
			low, err = openIndexedLower(i, l)
		} else {
			low, err = openFolderLower(i, l, fs.fds, w)
		}
		if err != nil {
			return err
		}
		fs.layers = append([]lower{low}, fs.layers...)
	}
	return nil
}

// openRoot makes the root's inode: all layers' roots, merged.
func (fs *FS) openRoot() (*inode, error) {
	n := &inode{fs: fs, ino: rootIno, typ: unix.S_IFDIR, refs: 1, dir: &folder{}}
	for _, l := range fs.layers {
		r, err := l.root()
		if err != nil {
			return nil, err
		}
		n.lowers = append(n.lowers, r)
		a, err := l.attr(r)
		if err != nil {
			return nil, err
		}
		if a.opaque {
			break
		}
	}
	if fs.upper == nil {
		return n, nil
	}
	n.upper = true
	s := spot{dir: fs.upper.root}
	if isOpaque(s) {
		n.lowers = nil
	}
	return n, fs.upper.adoptRoot(n)
}

// Sync makes all that was written so far durable.
func (fs *FS) Sync() error {
	if fs.upper == nil {
		return nil
	}
	fd, err := unix.Open(fs.cfg.Upper.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sync upper: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("sync upper: %w", err)
	}
	return nil
}

// Close drops every connection and closes the layers. No front end may be serving any more.
func (fs *FS) Close() error {
	fs.conns.closeAll()
	fs.folder.drop()
	var errs []error
	for _, l := range fs.layers {
		errs = append(errs, l.close())
	}
	fs.layers = nil
	if fs.upper != nil {
		errs = append(errs, fs.upper.close())
		fs.upper = nil
	}
	return errors.Join(errs...)
}

// ReadLower reads at most max bytes of the regular file that the image layers have at path. No link is followed. The error
// is fs.ErrNotExist when there is no such file.
func (fs *FS) ReadLower(path string, max int) ([]byte, error) {
	n := &inode{fs: fs, typ: unix.S_IFDIR, dir: &folder{moved: true}, lowers: fs.lowerRoots()}
	for name := range pathParts(path) {
		parts, err := n.peekLower(name)
		if err != nil {
			return nil, &iofs.PathError{Op: "read", Path: path, Err: err}
		}
		if len(parts) == 0 {
			return nil, &iofs.PathError{Op: "read", Path: path, Err: iofs.ErrNotExist}
		}
		n = &inode{fs: fs, typ: parts[0].mode & unix.S_IFMT, dir: &folder{moved: true}, lowers: parts}
	}
	if n.typ != unix.S_IFREG {
		return nil, &iofs.PathError{Op: "read", Path: path, Err: iofs.ErrNotExist}
	}
	fd, err := n.lowers[0].layer.open(n.lowers[0])
	if err != nil {
		return nil, &iofs.PathError{Op: "read", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(max)))
}

func (fs *FS) lowerRoots() []lowerNode {
	var roots []lowerNode
	for _, l := range fs.layers {
		if r, err := l.root(); err == nil {
			roots = append(roots, r)
		}
	}
	return roots
}
