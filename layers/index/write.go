package index

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
)

// WriteTo writes the index: the same bytes for the same tree, whatever order it came in. Call it once.
func (b *Builder) WriteTo(w io.Writer) (int64, error) {
	if len(b.layer) > maxLayer {
		return 0, fmt.Errorf("write layer index: diff ID of %d bytes", len(b.layer))
	}
	nodes := b.number()
	if len(nodes) > math.MaxUint32/2 {
		return 0, fmt.Errorf("write layer index: %d inodes", len(nodes))
	}
	e := encoder{base: uint64(headerSize + len(nodes)*recordSize)}
	table := make([]byte, 0, len(nodes)*recordSize)
	for _, n := range nodes { // a folder's block tells its children where their names are, so parents first
		data, err := e.data(n)
		if err != nil {
			return 0, fmt.Errorf("write layer index: %w", err)
		}
		xattrs, err := e.xattrs(n.Xattrs)
		if err != nil {
			return 0, fmt.Errorf("write layer index: %w", err)
		}
		table = appendRecord(table, n, data, xattrs)
	}
	head := b.header(len(nodes), e.base+uint64(e.heap.Len()))
	var written int64
	for _, part := range [][]byte{head, table, e.heap.Bytes()} {
		n, err := w.Write(part)
		written += int64(n)
		if err != nil {
			return written, fmt.Errorf("write layer index: %w", err)
		}
	}
	return written, nil
}

// number gives every node that is still reachable its inode number, folder by folder, each sorted, and counts links.
func (b *Builder) number() []*node {
	b.root.ino, b.root.parent, b.root.nlink = Root, Root, 2
	nodes := []*node{b.root}
	for at := 0; at < len(nodes); at++ {
		dir := nodes[at]
		for _, name := range slices.Sorted(maps.Keys(dir.children)) {
			c := dir.children[name]
			n := c.node
			if n == nil {
				continue
			}
			if n.isDir() {
				dir.nlink++
				n.nlink++
				n.opaque = n.opaque || c.hides
			}
			n.nlink++
			if n.ino == 0 {
				nodes = append(nodes, n)
				n.ino, n.parent = Ino(len(nodes)), dir.ino
			}
		}
	}
	return nodes
}

func (b *Builder) header(inodes int, size uint64) []byte {
	head := make([]byte, headerSize)
	copy(head[headMagic:], magic)
	le.PutUint32(head[headVersion:], version)
	le.PutUint64(head[headSize:], size)
	le.PutUint32(head[headInodes:], uint32(inodes))
	le.PutUint32(head[headLayerLen:], uint32(len(b.layer)))
	copy(head[headLayer:], b.layer)
	le.PutUint32(head[headChecksum:], checksum(head))
	return head
}

func appendRecord(table []byte, n *node, data, xattrs blob) []byte {
	r := make([]byte, recordSize)
	le.PutUint32(r[recMode:], n.Mode)
	le.PutUint32(r[recUID:], n.UID)
	le.PutUint32(r[recGID:], n.GID)
	le.PutUint32(r[recMajor:], n.Major)
	le.PutUint32(r[recMinor:], n.Minor)
	le.PutUint32(r[recNlink:], n.nlink)
	le.PutUint64(r[recSize:], n.size())
	le.PutUint64(r[recSec:], uint64(n.Sec))
	le.PutUint32(r[recNsec:], n.Nsec)
	le.PutUint16(r[recFlags:], n.flags())
	le.PutUint16(r[recNameLen:], n.nameLen)
	putBlob(r[recData:], data)
	putBlob(r[recXattrs:], xattrs)
	le.PutUint64(r[recNameOff:], n.nameOff)
	le.PutUint32(r[recParent:], uint32(n.parent))
	le.PutUint32(r[recChecksum:], checksum(r[:recChecksum]))
	return append(table, r...)
}

func (n *node) size() uint64 {
	if n.isSymlink() {
		return uint64(len(n.Target))
	}
	return n.Size
}

func (n *node) flags() uint16 {
	var flags uint16
	if n.opaque {
		flags |= flagOpaque
	}
	if n.implied {
		flags |= flagImplied
	}
	return flags
}

// An encoder collects the heap, which begins at base in the file.
type encoder struct {
	base uint64
	heap bytes.Buffer
}

func (e *encoder) put(b []byte) (blob, error) {
	if len(b) > math.MaxUint32 {
		return blob{}, fmt.Errorf("%d bytes in one piece", len(b))
	}
	at := blob{off: e.base + uint64(e.heap.Len()), len: uint32(len(b)), crc: checksum(b)}
	e.heap.Write(b)
	return at, nil
}

func (e *encoder) data(n *node) (blob, error) {
	switch {
	case n.isDir():
		return e.put(encodeFolder(n))
	case n.isSymlink():
		return e.put([]byte(n.Target))
	}
	return blob{}, nil
}

// encodeFolder is the block of dir. A whiteout in an opaque folder says nothing, and is left out.
func encodeFolder(dir *node) []byte {
	names := slices.Sorted(maps.Keys(dir.children))
	names = slices.DeleteFunc(names, func(name string) bool {
		c := dir.children[name]
		return c.node == nil && (dir.opaque || !c.hides)
	})
	b := make([]byte, 4+len(names)*entrySize)
	le.PutUint32(b, uint32(len(names)))
	for i, name := range names {
		n := dir.children[name].node
		e := b[4+i*entrySize:]
		le.PutUint32(e, uint32(len(b)))
		le.PutUint16(e[4:], uint16(len(name)))
		if n == nil {
			le.PutUint16(e[6:], entryWhiteout)
		} else {
			le.PutUint32(e[8:], uint32(n.ino))
			le.PutUint32(e[12:], n.Mode)
			if n.parent == dir.ino && n.nameLen == 0 {
				n.nameOff, n.nameLen = uint64(len(b)), uint16(len(name))
			}
		}
		b = append(b, name...)
	}
	return b
}

func (e *encoder) xattrs(m map[string]string) (blob, error) {
	if len(m) == 0 {
		return blob{}, nil
	}
	b := le.AppendUint32(nil, uint32(len(m)))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = le.AppendUint16(b, uint16(len(name)))
		b = le.AppendUint32(b, uint32(len(m[name])))
		b = append(b, name...)
		b = append(b, m[name]...)
	}
	return e.put(b)
}
