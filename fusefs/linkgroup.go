package fusefs

import (
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

// visit looks up a path from the root, which records where its last inode is.
func (fs *FS) visit(path string) error {
	n := fs.root
	fs.table.ref(n)
	for name := range pathParts(path) {
		if !n.isDir() {
			fs.unref(n, 1)
			return unix.ENOTDIR
		}
		child, err := fs.lookup(n, name)
		fs.unref(n, 1)
		if err != nil {
			return err
		}
		n = child
	}
	fs.unref(n, 1)
	return nil
}

func (g *linkGroups) of(n lowerNode) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := n.layer
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
	return groups[n.ino], nil
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
