package fusefs

import (
	"math"
	"sync"
)

// A nodeTable holds what one client has looked up. A node id is the number of a slot, and above it how often the slot has been given
// to another inode: an id is never used again, so that a forged or a stale one is known.
type nodeTable struct {
	mu    sync.Mutex
	slots []*[slotsAtOnce]node
	used  uint32   // slots below were in use, or are
	free  []uint32 // of those, the ones that are not
	ids   map[*inode]uint64
	stubs stubTable
}

const slotsAtOnce = 256

type node struct {
	inode *inode // nil: the slot is free; of a stub, the folder it is in
	count uint32 // look-ups the client has not forgotten; beyond 4 billion they are as good as so many
	turn  uint32 // the upper half of the slot's id
	space uint32 // with ino, the key of a stub; 0 of an inode
	ino   uint32
}

// stub is the key of the stub that the node is, or nil.
func (n *node) stub() *key {
	if n.space == upperSpace {
		return nil
	}
	return &key{n.space, uint64(n.ino)}
}

func (n *node) countOne() {
	if n.count < math.MaxUint32 {
		n.count++
	}
}

// rootID is FUSE's node id of the root.
const rootID = 1

func (t *nodeTable) start(root *inode) {
	t.used = rootID // there is no node 0
	t.ids = make(map[*inode]uint64)
	t.add(root)
}

// node is the slot of id, nil when there is none or it is another's by now.
func (t *nodeTable) node(id uint64) *node {
	slot, turn := uint32(id), uint32(id>>32)
	if slot >= t.used || t.slots == nil {
		return nil
	}
	n := t.at(slot)
	if n.inode == nil || n.turn != turn {
		return nil
	}
	return n
}

func (t *nodeTable) at(slot uint32) *node { return &t.slots[slot/slotsAtOnce][slot%slotsAtOnce] }

// get returns the inode of id, or nil; of a stub, its key, and its folder. The reference is the client's.
func (t *nodeTable) get(id uint64) (*inode, *key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.node(id); n != nil {
		return n.inode, n.stub()
	}
	return nil, nil
}

// add counts one look-up of n, and takes over the caller's reference; surplus says that the table had one already.
func (t *nodeTable) add(n *inode) (id uint64, surplus bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil { // the client has gone
		return 0, true
	}
	if id, ok := t.ids[n]; ok {
		t.node(id).countOne()
		return id, true
	}
	slot := t.take()
	e := t.at(slot)
	e.inode, e.count = n, 1
	id = e.id(slot)
	t.ids[n] = id
	return id, false
}

func (n *node) id(slot uint32) uint64 { return uint64(n.turn)<<32 | uint64(slot) }

// addStub counts one look-up of the stub k, which is in d. The error is full when that is new to the client; when it was
// added, the table takes a reference to d.
func (t *nodeTable) addStub(k key, d *inode, full error) (id uint64, added bool, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil { // the client has gone
		return 0, false, nil
	}
	if slot := t.stubs.at(k); slot != nil && *slot != 0 {
		e := t.at(*slot)
		e.countOne()
		return e.id(*slot), false, nil
	}
	if full != nil {
		return 0, false, full
	}
	slot := t.take()
	t.stubs.put(k, slot)
	e := t.at(slot)
	e.inode, e.count, e.space, e.ino = d, 1, k.space, uint32(k.ino)
	return e.id(slot), true, nil
}

// wake makes n what was the stub k, if there is one: it takes a reference to n, and leaves that to the folder which it returns.
func (t *nodeTable) wake(k key, n *inode) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.stubs.at(k)
	if at == nil || *at == 0 {
		return nil
	}
	slot := *at
	*at = 0
	e := t.at(slot)
	d := e.inode
	e.inode, e.space, e.ino = n, upperSpace, 0
	t.ids[n] = e.id(slot)
	return d
}

// take gives a slot that is free.
func (t *nodeTable) take() uint32 {
	if last := len(t.free) - 1; last >= 0 {
		slot := t.free[last]
		t.free = t.free[:last]
		return slot
	}
	slot := t.used
	t.used++
	if int(slot/slotsAtOnce) == len(t.slots) {
		t.slots = append(t.slots, new([slotsAtOnce]node))
	}
	return slot
}

// knows reports whether the client has looked n up.
func (t *nodeTable) knows(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.ids[n]
	return ok
}

// forget takes back count look-ups of id, as many as there were at most, and returns the inode when none is left; of a stub, its
// key, and its folder.
func (t *nodeTable) forget(id, count uint64) (*inode, *key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.node(id)
	if e == nil || id == rootID {
		return nil, nil
	}
	e.count -= uint32(min(count, uint64(e.count)))
	if e.count > 0 {
		return nil, nil
	}
	n, stub := e.inode, e.stub()
	if stub != nil {
		*t.stubs.at(*stub) = 0
	} else {
		delete(t.ids, n)
	}
	e.inode, e.space, e.ino = nil, upperSpace, 0
	e.turn++
	if e.turn != 0 { // or all its ids have been used
		t.free = append(t.free, uint32(id))
	}
	return n, stub
}

// all is what the client knows now, but for stubs.
func (t *nodeTable) all() map[uint64]*inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[uint64]*inode, len(t.ids))
	for n, id := range t.ids {
		all[id] = n
	}
	return all
}

// drain forgets all, and returns all but the root; of stubs, how many there were in each folder.
func (t *nodeTable) drain() (all []*inode, stubs map[*inode]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, id := range t.ids {
		if id != rootID {
			all = append(all, n)
		}
	}
	stubs = make(map[*inode]int)
	for slot := range t.used {
		if n := t.at(slot); n.stub() != nil {
			stubs[n.inode]++
		}
	}
	t.slots, t.used, t.free, t.ids, t.stubs = nil, 0, nil, nil, nil
	return all, stubs
}
