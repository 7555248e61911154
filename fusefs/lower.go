package fusefs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A lowerNode is one file of one lower layer.
type lowerNode struct {
	layer lower
	ino   uint64 // within the layer
	path  string // relative to the layer's root: plain folders find their files by it; "" in an indexed layer
	mode  uint32 // S_IF* bits at least
}

// errWhiteout is the answer of a layer that hides the name from the layers below.
var errWhiteout = errors.New("whiteout")

// A lower is one read-only layer: indexed (its metadata never touches the disk) or a plain folder. Look-ups answer
// unix.ENOENT when the layer does not know the name, and errWhiteout when it hides it.
type lower interface {
	// number counts the layers from the bottom, which is 0.
	number() int
	root() (lowerNode, error)
	lookup(dir lowerNode, name string) (lowerNode, error)
	entries(dir lowerNode, yield func(e lowerEntry)) error
	attr(n lowerNode) (attributes, error)
	readlink(n lowerNode) (string, error)
	xattrs(n lowerNode) ([]xattrPair, error)
	open(n lowerNode) (int, error)
	// where is n's path in the layer; of a file with several names, one of them.
	where(n lowerNode) (string, error)
	close() error
}

type lowerEntry struct {
	name     string
	ino      uint64
	mode     uint32 // S_IF* bits; 0 when only a look-up can tell
	whiteout bool
}

// A attributes is what stat shows, and how a folder joins those below.
type attributes struct {
	owner
	nlink         uint32
	size, blocks  uint64
	atime         unix.Timespec
	mtime         unix.Timespec
	ctime         unix.Timespec
	btime         unix.Timespec
	opaque        bool // hides the folders of the same name below
	implied       bool // a folder the layer only passes through: what a layer below says of it holds
	mayHaveXattrs bool
}

type xattrPair struct {
	name  string
	value []byte
}

// find walks path from the layer's root.
func findLower(l lower, path string) (lowerNode, error) {
	n, err := l.root()
	for name := range pathParts(path) {
		if err != nil {
			return lowerNode{}, err
		}
		n, err = l.lookup(n, name)
	}
	return n, err
}
