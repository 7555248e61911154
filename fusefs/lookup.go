package fusefs

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An upperEntry is what the upper says of a name.
type upperEntry struct {
	state upperState
	st    unix.Stat_t
	own   owner
}

type upperState int

const (
	absent upperState = iota
	hidden            // a whiteout
	present
)

// lookup finds name in d and returns its inode with a reference. The caller holds the tree.
func (fs *FS) lookup(d *inode, name string) (*inode, error) {
	d.dir.names.RLock()
	defer d.dir.names.RUnlock()
	return fs.lookupLocked(d, name)
}

// lookupLocked is lookup for those who hold d's names.
func (fs *FS) lookupLocked(d *inode, name string) (*inode, error) {
	f, err := d.find(name, nil)
	if err != nil {
		return nil, err
	}
	return fs.intern(d, name, &f)
}

// A found is what shows at a name: what the upper has there, or the parts below.
type found struct {
	upper upperEntry
	parts []lowerNode
}

// find is what shows at name in d; the parts are appended to room, which is empty. The caller holds d's names.
func (d *inode) find(name string, room []lowerNode) (f found, err error) {
	if s := d.sandboxChild(name); s != nil {
		f.parts = append(room, s.node(d.fs))
		return f, nil
	}
	if f.upper, err = d.peekUpper(name); err != nil {
		return f, err
	}
	switch f.upper.state {
	case hidden:
		return f, unix.ENOENT
	case present:
		return f, nil
	}
	f.parts, err = d.appendLower(room, name)
	if err == nil && len(f.parts) == 0 {
		err = unix.ENOENT
	}
	return f, err
}

// intern gives the inode of what was found at name in d, with a reference.
func (fs *FS) intern(d *inode, name string, f *found) (*inode, error) {
	if f.upper.state == present {
		return fs.internUpper(d, name, f.upper)
	}
	return fs.internLower(d, name, f.parts)
}

// peekUpper reads what the upper has at name in d.
func (d *inode) peekUpper(name string) (upperEntry, error) {
	if !d.inUpper() {
		return upperEntry{}, nil
	}
	fd, err := d.folderFD()
	if err != nil {
		return upperEntry{}, err
	}
	defer fd.release()
	u := d.fs.upper
	s := spot{dir: fd, name: name}
	var e upperEntry
	if u.hides(name) {
		return e, nil
	}
	if err := s.stat(&e.st); err != nil {
		if err != unix.ENOENT {
			return e, err
		}
		if d.mayHaveWhFiles(fd) && existsAt(fd.fd, whPrefix+name) {
			e.state = hidden
		}
		return e, nil
	}
	if isWhiteout(&e.st) {
		e.state = hidden
		return e, nil
	}
	e.state = present
	e.own, err = u.owners.read(s, &e.st)
	return e, err
}

// hides reports whether name is mica's own business in the upper.
func (u *upper) hides(name string) bool {
	return u.cfg.RealOwners && strings.HasPrefix(name, whPrefix) || u.cfg.Work == "" && strings.HasPrefix(name, ".mica-")
}

// peekLower gives what the layers and the synthetic layer have at name in d, whatever the upper says: one file, or the parts
// of one folder, or nothing.
func (d *inode) peekLower(name string) ([]lowerNode, error) { return d.appendLower(nil, name) }

// appendLower is peekLower into parts, which is empty.
func (d *inode) appendLower(parts []lowerNode, name string) ([]lowerNode, error) {
	syn := d.syntheticChild(name)
	if syn != nil && !syn.ifMissing && !syn.isDir() {
		return append(parts, syn.node(d.fs)), nil
	}
	top, err := d.topmost(name)
	if err != nil {
		return nil, err
	}
	for _, p := range d.lowers[top.part:] {
		if _, ok := p.layer.(*syntheticLower); ok {
			continue
		}
		n, err := top.lookup(p, name)
		if err == unix.ENOENT {
			continue
		}
		if err == errWhiteout {
			break
		}
		if err != nil {
			return nil, err
		}
		if n.mode&unix.S_IFMT != unix.S_IFDIR {
			if len(parts) == 0 && (syn == nil || syn.ifMissing) {
				parts = append(parts, n)
			}
			break
		}
		parts = append(parts, n)
		a, err := n.layer.attr(n)
		if err != nil {
			return nil, err
		}
		if a.opaque {
			break
		}
	}
	if len(parts) == 0 && syn != nil {
		parts = append(parts, syn.node(d.fs))
	}
	return parts, nil
}

// internLower gives the inode of what only the layers have. Its identity is that of its topmost part.
func (fs *FS) internLower(d *inode, name string, parts []lowerNode) (*inode, error) {
	k := lowerKey(parts[0])
	n := fs.table.get(k)
	if n == nil {
		n = fs.internNew(d, name, k, parts)
	}
	n.addPlace(d, name)
	return n, nil
}

// internNew is internLower of what is not known. Whoever finds a new inode, be it what was a stub, finds its place as well.
func (fs *FS) internNew(d *inode, name string, k key, parts []lowerNode) *inode {
	made := &inode{fs: fs, ino: stIno(k.space, k.ino), typ: parts[0].mode & unix.S_IFMT, lowers: slices.Clone(parts)}
	if made.isDir() {
		made.dir = &folder{}
	}
	p := place{d, name}
	made.places = []place{p}
	fs.table.ref(d)
	fs.memory.used.Add(p.bytes())
	n := fs.table.intern(k, made)
	if n != made { // somebody was faster
		fs.memory.used.Add(-p.bytes())
		fs.unref(d, 1)
	}
	return n
}

func lowerKey(p lowerNode) key { return key{space: uint32(p.layer.number() + 1), ino: p.ino} }

// layerOf is the layer whose keys are in space.
func (fs *FS) layerOf(space uint32) lower { return fs.layers[len(fs.layers)-int(space)] }

// internUpper gives the inode of what the upper has.
func (fs *FS) internUpper(d *inode, name string, e upperEntry) (*inode, error) {
	k := key{space: upperSpace, ino: e.st.Ino}
	if n := fs.table.get(k); n != nil && n.typ == e.own.mode&unix.S_IFMT {
		n.addPlace(d, name)
		return n, nil
	} else if n != nil {
		fs.table.remove(n)
		fs.unref(n, 1)
	}
	n := &inode{fs: fs, ino: stIno(k.space, k.ino), typ: e.own.mode & unix.S_IFMT, upper: true, host: e.st.Ino}
	if !fs.shared() {
		n.own, n.ownSet = e.own, true
	}
	if n.isDir() {
		n.dir = &folder{}
	}
	if err := n.readMarks(d, name); err != nil {
		return nil, err
	}
	n = fs.table.intern(k, n)
	n.addPlace(d, name)
	return n, nil
}

// readMarks reads from a new upper inode's xattrs what ties it to the layers.
func (n *inode) readMarks(d *inode, name string) error {
	fs := n.fs
	fd, err := d.folderFD()
	if err != nil {
		return err
	}
	defer fd.release()
	s := spot{dir: fd, name: name}
	marks := make(map[string]bool)
	list, err := s.listxattr()
	if err != nil && !isNoXattr(err) {
		return err
	}
	for x := range xattrNames(list) {
		marks[x] = true
	}
	if marks[inoXattr] {
		if v, err := s.getxattr(inoXattr); err == nil {
			if ino, err := strconv.ParseUint(string(v), 10, 64); err == nil && ino > rootIno {
				n.ino = ino
			}
		}
	}
	if len(fs.layers) == 0 && !n.isDir() {
		return nil
	}
	if n.isDir() {
		return n.readFolderMarks(d, name, s, marks)
	}
	if marks[metacopyXattr] {
		return n.readMetacopy(s)
	}
	return nil
}

func (n *inode) readFolderMarks(d *inode, name string, s spot, marks map[string]bool) error {
	for _, x := range opaqueXattrs {
		if marks[x] && isOpaque(s) {
			n.dir.opaque = true
			return nil
		}
	}
	if n.fs.upper.cfg.RealOwners && existsIn(s, whOpaque) {
		n.dir.opaque = true
		return nil
	}
	if marks[redirectXattr] {
		return n.readRedirect(s)
	}
	parts, err := d.peekLower(name)
	if err != nil {
		return err
	}
	if len(parts) > 0 && parts[0].mode&unix.S_IFMT == unix.S_IFDIR {
		n.lowers = parts
	}
	return nil
}

func existsIn(s spot, name string) bool {
	fd, err := openBeneath(s.dir.fd, s.name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return existsAt(fd, name)
}

func (fs *FS) shared() bool { return fs.upper != nil && fs.upper.cfg.Shared }
