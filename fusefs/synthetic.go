package fusefs

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sandboxName is the folder of the root that is the synthetic layer's alone, and read-only.
const sandboxName = ".sandbox"

// syntheticSpace is the key space of synthetic nodes, above any layer's.
const syntheticSpace = 1<<15 - 1

// A syntheticTree is one version of the synthetic layer. It never changes.
type syntheticTree struct {
	root *syntheticNode
	made time.Time
}

type syntheticNode struct {
	path      string
	mode      uint32
	data      []byte
	ifMissing bool
	names     []string // sorted
	children  map[string]*syntheticNode
}

func (s *syntheticNode) isDir() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }

func (s *syntheticNode) node(fs *FS) lowerNode {
	return lowerNode{layer: &syntheticLower{fs}, ino: hashPath(s.path), path: s.path, mode: s.mode}
}

// SetSynthetic replaces the synthetic layer. What is open stays as it was; a change shows within a second, where the client
// can be told at once.
func (fs *FS) SetSynthetic(entries []SyntheticEntry) error {
	t := &syntheticTree{root: &syntheticNode{path: "/", mode: unix.S_IFDIR | 0o755, ifMissing: true}, made: time.Now()}
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b SyntheticEntry) int { return strings.Compare(a.Path, b.Path) })
	for _, e := range sorted {
		if err := t.add(e); err != nil {
			return err
		}
	}
	fs.conns.replaceSynthetic(func() (was, is *syntheticTree) { return fs.synthetic.Swap(t), t })
	return nil
}

func (t *syntheticTree) add(e SyntheticEntry) error {
	if !path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path || e.Path == "/" {
		return fmt.Errorf("add synthetic entry %q: not an absolute, clean path", e.Path)
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
	default:
		return fmt.Errorf("add synthetic entry %q: mode %#o is no file, folder or symbolic link", e.Path, e.Mode)
	}
	n := t.root
	names := strings.Split(e.Path[1:], "/")
	for i, name := range names {
		if err := checkName(name); err != nil {
			return fmt.Errorf("add synthetic entry %q: %w", e.Path, err)
		}
		if !n.isDir() {
			return fmt.Errorf("add synthetic entry %q: %s is no folder", e.Path, n.path)
		}
		c := n.children[name]
		if c == nil {
			c = &syntheticNode{path: "/" + strings.Join(names[:i+1], "/"), mode: unix.S_IFDIR | 0o755, ifMissing: true}
			if n.children == nil {
				n.children = make(map[string]*syntheticNode)
			}
			n.children[name] = c
			at, _ := slices.BinarySearch(n.names, name)
			n.names = slices.Insert(n.names, at, name)
		}
		n = c
	}
	if len(n.children) > 0 && e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("add synthetic entry %q: it is a folder of others", e.Path)
	}
	n.mode, n.data, n.ifMissing = e.Mode, slices.Clone(e.Data), e.IfMissing
	return nil
}

// find returns the node at an absolute path, or nil.
func (t *syntheticTree) find(path string) *syntheticNode {
	n := t.root
	for name := range pathParts(path) {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// A syntheticView is a folder's node in one version of the layer, looked up once; guarded by the inode's mu.
type syntheticView struct {
	tree *syntheticTree
	node *syntheticNode
}

// syntheticNode is the synthetic folder that shows in d, or nil.
func (d *inode) syntheticNode() *syntheticNode {
	t := d.fs.synthetic.Load()
	if t == nil || d.dir.moved || d.dir.opaque {
		return nil
	}
	if d == d.fs.root {
		return t.root
	}
	d.mu.RLock()
	view := d.dir.view
	var p place
	if len(d.places) > 0 {
		p = d.places[0]
	}
	d.mu.RUnlock()
	if view.tree == t {
		return view.node
	}
	view = syntheticView{tree: t}
	if p.parent != nil {
		if up := p.parent.syntheticNode(); up != nil {
			view.node = up.children[p.name]
		}
	}
	d.mu.Lock()
	d.dir.view = view
	d.mu.Unlock()
	return view.node
}

// syntheticChild is what the synthetic layer has at name in d, or nil.
func (d *inode) syntheticChild(name string) *syntheticNode {
	n := d.syntheticNode()
	if n == nil {
		return nil
	}
	return n.children[name]
}

// sandboxChild is the synthetic node at name in d where it wins over the upper: /.sandbox and what is in it.
func (d *inode) sandboxChild(name string) *syntheticNode {
	if d == d.fs.root && name == sandboxName || d.isSandbox() {
		return d.syntheticChild(name)
	}
	return nil
}

// isSandbox reports whether the inode is /.sandbox or in it: read-only.
func (n *inode) isSandbox() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.lowers) == 0 || n.upper {
		return false
	}
	_, ok := n.lowers[0].layer.(*syntheticLower)
	return ok && (n.lowers[0].path == "/"+sandboxName || strings.HasPrefix(n.lowers[0].path, "/"+sandboxName+"/"))
}

// showsSynthetic reports whether a new synthetic layer can change the inode.
func (n *inode) showsSynthetic() bool {
	return n.isSynthetic() || n.isDir() && n.syntheticNode() != nil
}

// touchBySynthetic gives a folder that shows a synthetic layer at least that layer's time, so that a kernel that has cached the
// folder's names reads them again.
func (n *inode) touchBySynthetic(a *attributes) {
	if n.syntheticNode() == nil {
		return
	}
	made := unix.NsecToTimespec(n.fs.synthetic.Load().made.UnixNano())
	if a.mtime.Nano() < made.Nano() {
		a.mtime = made
	}
}

// isSynthetic reports whether what stat shows of the inode is the synthetic layer's.
func (n *inode) isSynthetic() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.lowers) == 0 || n.upper {
		return false
	}
	_, ok := n.lowers[0].layer.(*syntheticLower)
	return ok
}

// refreshSynthetic invalidates the folders' views after a rename: what has moved has lost its synthetic children.
func (fs *FS) refreshSynthetic() {
	t := *fs.synthetic.Load()
	fs.synthetic.Store(&t)
}

// A syntheticLower serves synthetic nodes as a layer, above all others. A node is found by its path each time, so that
// what it shows is always the present version's.
type syntheticLower struct{ fs *FS }

func (l *syntheticLower) number() int { return syntheticSpace - 1 }

func (l *syntheticLower) root() (lowerNode, error) { return l.fs.synthetic.Load().root.node(l.fs), nil }

func (l *syntheticLower) find(n lowerNode) (*syntheticNode, error) {
	s := l.fs.synthetic.Load().find(n.path)
	if s == nil || s.mode&unix.S_IFMT != n.mode&unix.S_IFMT {
		return nil, unix.ESTALE
	}
	return s, nil
}

func (l *syntheticLower) lookup(dir lowerNode, name string) (lowerNode, error) {
	s, err := l.find(dir)
	if err != nil {
		return lowerNode{}, err
	}
	if c := s.children[name]; c != nil {
		return c.node(l.fs), nil
	}
	return lowerNode{}, unix.ENOENT
}

func (l *syntheticLower) entries(dir lowerNode, yield func(lowerEntry)) error {
	s, err := l.find(dir)
	if err != nil {
		return err
	}
	for _, name := range s.names {
		c := s.children[name]
		yield(lowerEntry{name: name, ino: hashPath(c.path), mode: c.mode & unix.S_IFMT})
	}
	return nil
}

func (l *syntheticLower) attr(n lowerNode) (attributes, error) {
	s, err := l.find(n)
	if err != nil {
		return attributes{}, err
	}
	made := unix.NsecToTimespec(l.fs.synthetic.Load().made.UnixNano())
	size := uint64(len(s.data))
	return attributes{
		owner: owner{mode: s.mode}, nlink: 1, size: size, blocks: (size + 511) / 512,
		atime: made, mtime: made, ctime: made, btime: made,
	}, nil
}

func (l *syntheticLower) readlink(n lowerNode) (string, error) {
	s, err := l.find(n)
	if err != nil {
		return "", err
	}
	return string(s.data), nil
}

func (l *syntheticLower) xattrs(lowerNode) ([]xattrPair, error) { return nil, nil }

// open gives a sealed memory file, so that synthetic contents are read as any others are.
func (l *syntheticLower) open(n lowerNode) (int, error) {
	s, err := l.find(n)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("synthetic", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	for data := s.data; len(data) > 0; {
		k, err := unix.Write(fd, data)
		if err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		data = data[k:]
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (l *syntheticLower) where(n lowerNode) (string, error) {
	return strings.TrimPrefix(n.path, "/"), nil
}

func (l *syntheticLower) close() error { return nil }
