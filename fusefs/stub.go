package fusefs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/layers/index"
)

// A stub is what is known of a file of an indexed layer that has one name: where a client has listed it or looked it up, and asks no
// more, its node is a stub, which takes a tenth of an inode. The first other request makes the inode.
//
// While a file is a stub anywhere, no inode of it is known: table.intern turns the stubs of all clients into the inode
// that is new. So whoever changes a file or its name changes what the clients know.
type stub struct {
	key  key
	attr attributes
}

// errNoStub says that the inode is known already.
var errNoStub = errors.New("the inode is known")

// stubOf is what a client's node can be of what was found, if it can be a stub.
func stubOf(f *found) (s stub, ok bool, err error) {
	if f.upper.state == present || len(f.parts) != 1 {
		return s, false, nil
	}
	p := f.parts[0]
	l, indexed := p.layer.(*indexedLower)
	if !indexed || p.mode&unix.S_IFMT == unix.S_IFDIR {
		return s, false, nil
	}
	s = stub{key: lowerKey(p)}
	s.attr, err = l.attr(p)
	return s, err == nil && s.attr.nlink == 1, err
}

// enterStub gives the client s as the entry found in d. The errors are errNoStub, and full where the client does not know s yet.
func (c *Connection) enterStub(d *inode, s *stub, full error, out *fuse.EntryOut) error {
	id, err := c.addStub(d, s.key, full)
	if err != nil {
		return err
	}
	c.fill(stIno(s.key.space, s.key.ino), &s.attr, &out.Attr)
	out.NodeId, out.Generation = id, 1
	timeout := c.entryTimeout(d)
	out.SetEntryTimeout(timeout)
	out.SetAttrTimeout(c.fileTimeout())
	return nil
}

func (c *Connection) addStub(d *inode, k key, full error) (uint64, error) {
	t := &c.fs.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inodes[k] != nil {
		return 0, errNoStub
	}
	id, added, err := c.nodes.addStub(k, d, full)
	if added {
		d.refs++
		t.stubs.Add(1)
		c.fs.memory.used.Add(stubBytes)
	}
	return id, err
}

// dropStubs lets go of count stubs in d.
func (fs *FS) dropStubs(d *inode, count int) {
	fs.table.stubs.Add(int64(-count))
	fs.memory.used.Add(int64(-count) * stubBytes)
	fs.unref(d, int32(count))
}

// node is the inode of a node id. The reference is the client's.
func (c *Connection) node(id uint64) (*inode, error) {
	n, stub := c.nodes.get(id)
	switch {
	case n == nil:
		return nil, unix.ESTALE
	case stub == nil:
		return n, nil
	}
	n, err := c.fs.internStub(n, *stub)
	if err != nil {
		return nil, err
	}
	defer c.fs.unref(n, 1)
	if now, _ := c.nodes.get(id); now != n {
		return nil, unix.ESTALE // the client has forgotten it in the meantime
	}
	return n, nil
}

// internStub makes the inode of a stub in d, with a reference.
func (fs *FS) internStub(d *inode, k key) (*inode, error) {
	p, name, err := fs.layerOf(k.space).(*indexedLower).file(index.Ino(k.ino))
	if err != nil {
		return nil, err
	}
	return fs.internLower(d, name, []lowerNode{p})
}

// wake makes n, whose first key is k, what was a stub. The caller holds the table, and drops a stub in each of the folders.
func (s *connections) wake(k key, n *inode) (folders []*inode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if d := c.nodes.wake(k, n); d != nil {
			n.refs++
			folders = append(folders, d)
		}
	}
	return folders
}

// A stubTable finds the slots of stubs: by the number of their layer and, some at a time, by their inode number there.
type stubTable []map[uint32]*[slotsAtOnce]uint32

// at is where the slot of k is written: 0 where k is no stub. It is nil when that has no room yet.
func (t stubTable) at(k key) *uint32 {
	if k.space == upperSpace || k.space > uint32(len(t)) || k.ino > inoMask>>16 {
		return nil
	}
	page := t[k.space-1][uint32(k.ino)/slotsAtOnce]
	if page == nil {
		return nil
	}
	return &page[k.ino%slotsAtOnce]
}

// put is at, and makes the room.
func (t *stubTable) put(k key, slot uint32) {
	for uint32(len(*t)) < k.space {
		*t = append(*t, make(map[uint32]*[slotsAtOnce]uint32))
	}
	pages, number := (*t)[k.space-1], uint32(k.ino)/slotsAtOnce
	if pages[number] == nil {
		pages[number] = new([slotsAtOnce]uint32)
	}
	pages[number][k.ino%slotsAtOnce] = slot
}
