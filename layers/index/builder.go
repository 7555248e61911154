package index

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
)

// A Record is what a tar says of one name. Mode has the S_IF* bits; Size counts for regular files; Target is a symbolic
// link's. With Hardlink, an earlier name of the same layer, everything else is that name's.
type Record struct {
	Mode, UID, GID, Major, Minor uint32
	Size                         uint64
	Sec                          int64
	Nsec                         uint32
	Target                       string
	Xattrs                       map[string]string
	Hardlink                     string
}

// A Builder takes a layer's entries in the order of its tar and writes the index. Later entries win over earlier ones of the
// same name; paths are taken as if the layer's root were theirs, so that none leaves it.
type Builder struct {
	layer string
	root  *node
}

// A node is one inode to be. Names that share one are hard links.
type node struct {
	Record
	children map[string]*child // of a folder
	opaque   bool
	implied  bool

	// Known while the index is written.
	ino     Ino
	parent  Ino
	nlink   uint32
	nameOff uint64
	nameLen uint16
}

// A child is one name in a folder: a node, or a whiteout, or both when a layer deletes what is below and puts something new there.
type child struct {
	node  *node
	hides bool // what lower layers have under this name is gone
}

func (n *node) isDir() bool     { return n.Mode&typeMask == syscall.S_IFDIR }
func (n *node) isSymlink() bool { return n.Mode&typeMask == syscall.S_IFLNK }

// NewBuilder starts the index of the layer with this diff ID: at most 128 bytes.
func NewBuilder(diffID string) *Builder {
	return &Builder{layer: diffID, root: impliedFolder()}
}

var errRootType = errors.New("add /: the root of a layer is a folder")

// impliedFolder is a folder that a tar does not list but needs.
func impliedFolder() *node {
	return &node{Record: Record{Mode: syscall.S_IFDIR | 0o755}, children: map[string]*child{}, implied: true}
}

// Add takes one entry: it replaces what an earlier one put at name, except that a folder keeps its children when it is
// listed again. Folders on the way that are not there yet are made, owned by root and with mode 0755.
func (b *Builder) Add(name string, r Record) error {
	if r.Hardlink != "" {
		return b.link(name, r.Hardlink)
	}
	if err := checkRecord(r); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	names := split(name)
	if len(names) == 0 {
		if r.Mode&typeMask != syscall.S_IFDIR {
			return errRootType
		}
		b.root.Record, b.root.implied = r, false
		return nil
	}
	c, err := b.slot(names)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	n := &node{Record: r}
	switch {
	case !n.isDir():
		c.hides = true
	case c.node != nil && c.node.isDir():
		c.node.Record, c.node.implied = r, false
		return nil
	default:
		n.children = map[string]*child{}
	}
	c.node = n
	return nil
}

func checkRecord(r Record) error {
	switch r.Mode & typeMask {
	case syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK, syscall.S_IFCHR, syscall.S_IFBLK, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return fmt.Errorf("mode %#o has no file type", r.Mode)
	}
	for name := range r.Xattrs {
		if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
			return fmt.Errorf("bad extended attribute %q", name)
		}
	}
	return nil
}

// link gives the inode at target, which is no folder, another name.
func (b *Builder) link(name, target string) error {
	to := b.find(split(target))
	if to == nil {
		return fmt.Errorf("add %s: hard link to %s, which is not in this layer", name, target)
	}
	if to.isDir() {
		return fmt.Errorf("add %s: hard link to the folder %s", name, target)
	}
	names := split(name)
	if len(names) == 0 {
		return errRootType
	}
	c, err := b.slot(names)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	c.node, c.hides = to, true
	return nil
}

// Whiteout hides what lower layers have at name. What this layer itself puts there, before or after, stays.
func (b *Builder) Whiteout(name string) error {
	names := split(name)
	if len(names) == 0 {
		return fmt.Errorf("whiteout of /")
	}
	c, err := b.slot(names)
	if err != nil {
		return fmt.Errorf("whiteout of %s: %w", name, err)
	}
	c.hides = true
	return nil
}

// Opaque hides everything that lower layers have in the folder at name.
func (b *Builder) Opaque(name string) error {
	n, err := b.folder(split(name))
	if err != nil {
		return fmt.Errorf("opaque folder %s: %w", name, err)
	}
	n.opaque = true
	return nil
}

// Stat is what the layer has at name so far, no link followed; false when that is nothing or a whiteout. Two names are hard
// links of each other when the pointers are equal.
func (b *Builder) Stat(name string) (*Record, bool) {
	n := b.find(split(name))
	if n == nil {
		return nil, false
	}
	return &n.Record, true
}

// maxLinks is how many symbolic links Resolve follows, as Linux's own limit for a path.
const maxLinks = 40

// Resolve follows the symbolic links that the layer has so far in all of name but its last part, as if the layer's root were the
// system's: the path is clean, relative, "." for the root. The error wraps ELOOP when there are too many.
func (b *Builder) Resolve(name string) (string, error) {
	todo := split(name)
	var done []string
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(len(done)-1, 0)]
			continue
		}
		if len(todo) > 0 {
			n := b.find(append(done, part))
			if n != nil && n.isSymlink() {
				if links++; links > maxLinks {
					return "", fmt.Errorf("resolve %s: %w", name, syscall.ELOOP)
				}
				if strings.HasPrefix(n.Target, "/") {
					done = nil
				}
				todo = append(splitLink(n.Target), todo...)
				continue
			}
		}
		done = append(done, part)
	}
	return path.Join(append([]string{"."}, done...)...), nil
}

// splitLink is a link's target in parts; ".." stays, because what it means depends on the links before it.
func splitLink(target string) []string {
	var parts []string
	for part := range strings.SplitSeq(target, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}

// split is a path in parts, taken from the root of the layer: ".." goes no further up than that.
func split(name string) []string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// find is the node at a path, or nil.
func (b *Builder) find(names []string) *node {
	n := b.root
	for _, name := range names {
		c := n.children[name]
		if c == nil || c.node == nil {
			return nil
		}
		n = c.node
	}
	return n
}

// slot is where the node at a path belongs; folders on the way are made.
func (b *Builder) slot(names []string) (*child, error) {
	dir, err := b.folder(names[:len(names)-1])
	if err != nil {
		return nil, err
	}
	return dir.child(names[len(names)-1])
}

// folder is the folder at a path, made where it is not there.
func (b *Builder) folder(names []string) (*node, error) {
	n := b.root
	for i, name := range names {
		c, err := n.child(name)
		if err != nil {
			return nil, err
		}
		if c.node == nil {
			c.node = impliedFolder()
		}
		if !c.node.isDir() {
			return nil, fmt.Errorf("%s: %w", path.Join(names[:i+1]...), syscall.ENOTDIR)
		}
		n = c.node
	}
	return n, nil
}

func (n *node) child(name string) (*child, error) {
	if !validName(name) {
		return nil, fmt.Errorf("bad name %.300q", name)
	}
	c := n.children[name]
	if c == nil {
		c = &child{}
		n.children[name] = c
	}
	return c, nil
}
