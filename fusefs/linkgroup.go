package fusefs

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// linkGroups knows the names of each layer's files that have several: the copy-up of one name brings all of them, or they
// would fall apart. A layer is walked once, when the first such file is copied up.
type linkGroups struct {
	mu     sync.Mutex
	layers map[int]map[uint64][]string
}

// findGroup looks up all names of a lower file, so that the inode knows its places. The caller holds no tree.
func (n *inode) findGroup() error {
	a, err := n.lowerAttr()
	if err != nil {
		return err
	}
	low := n.lowers[0]
	if a.nlink < 2 || low.layer.number() >= len(n.fs.layers) {
		return nil
	}
	paths, err := n.fs.groups.of(low)
	if err != nil {
		return err
	}
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	for _, path := range paths {
		if err := n.fs.visit(path); err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
			return err
		}
	}
	return nil
}

// mayHoldGroups reports whether the folder, about to be renamed, has to have its groupsToUpper first.
func (n *inode) mayHoldGroups() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.isDir() && len(n.lowers) > 0 && !n.dir.moved && !n.dir.linked
}

// groupsToUpper brings the files of several names below the folder to the upper: they are looked for where the layers have
// them, and would not be found once the folder has been renamed. The caller holds no lock.
func (n *inode) groupsToUpper() error {
	n.mu.RLock()
	lowers := n.lowers
	n.mu.RUnlock()
	for _, low := range lowers {
		if low.layer.number() >= len(n.fs.layers) {
			continue
		}
		dir, err := low.layer.where(low)
		if err != nil {
			return err
		}
		paths, err := n.fs.groups.below(low, dir)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := n.fs.linksToUpper(path); err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
				return err
			}
		}
	}
	n.mu.Lock()
	n.dir.linked = true
	n.mu.Unlock()
	return nil
}

// linksToUpper brings the file at path, if it is a lower one of several names, to the upper.
func (fs *FS) linksToUpper(path string) error {
	fs.tree.RLock()
	n, err := fs.find(path)
	fs.tree.RUnlock()
	if err != nil {
		return err
	}
	defer fs.unref(n, 1)
	if n.isDir() || !n.hasLowerLinks() {
		return nil
	}
	return n.toUpper(metadataOnly)
}

// visit looks up a path from the root, which records where its last inode is.
func (fs *FS) visit(path string) error {
	n, err := fs.find(path)
	if err == nil {
		fs.unref(n, 1)
	}
	return err
}

// find looks up a path from the root, and returns its inode with a reference. The caller holds the tree.
func (fs *FS) find(path string) (*inode, error) {
	n := fs.root
	fs.table.ref(n)
	for name := range pathParts(path) {
		if !n.isDir() {
			fs.unref(n, 1)
			return nil, unix.ENOTDIR
		}
		child, err := fs.lookup(n, name)
		fs.unref(n, 1)
		if err != nil {
			return nil, err
		}
		n = child
	}
	return n, nil
}

// of gives the names of the file n.
func (g *linkGroups) of(n lowerNode) ([]string, error) {
	groups, err := g.in(n.layer)
	return groups[n.ino], err
}

// below gives the names below the folder dir that its files of several names have.
func (g *linkGroups) below(n lowerNode, dir string) ([]string, error) {
	groups, err := g.in(n.layer)
	var found []string
	for _, paths := range groups {
		for _, path := range paths {
			if strings.HasPrefix(path, dir+"/") {
				found = append(found, path)
			}
		}
	}
	return found, err
}

// in gives the layer's groups by inode number, which nobody changes.
func (g *linkGroups) in(l lower) (map[uint64][]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.layers == nil {
		g.layers = make(map[int]map[uint64][]string)
	}
	groups := g.layers[l.number()]
	if groups == nil {
		groups = make(map[uint64][]string)
		root, err := l.root()
		if err != nil {
			return nil, err
		}
		if err := collectGroups(root, "", groups); err != nil {
			return nil, err
		}
		for ino, paths := range groups {
			if len(paths) < 2 {
				delete(groups, ino)
			}
		}
		g.layers[l.number()] = groups
	}
	return groups, nil
}

// collectGroups notes the paths of the files below dir that have several names.
func collectGroups(dir lowerNode, path string, groups map[uint64][]string) error {
	var folders []string
	err := dir.layer.entries(dir, func(e lowerEntry) {
		switch {
		case e.whiteout:
		case e.mode&unix.S_IFMT == unix.S_IFDIR:
			folders = append(folders, e.name)
		default:
			groups[e.ino] = append(groups[e.ino], joinPath(path, e.name))
		}
	})
	if err != nil {
		return err
	}
	for _, name := range folders {
		n, err := dir.layer.lookup(dir, name)
		if err == nil {
			err = collectGroups(n, joinPath(path, name), groups)
		}
		if err != nil && err != unix.EXDEV {
			return err
		}
	}
	return nil
}
