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
}

const slotsAtOnce = 256

type node struct {
	inode *inode // nil: the slot is free
	count uint32 // look-ups the client has not forgotten; beyond 4 billion they are as good as so many
	turn  uint32 // the upper half of the slot's id
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

// get returns the inode of id, or nil. The reference is the client's.
func (t *nodeTable) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.node(id); n != nil {
		return n.inode
	}
	return nil
}

// add counts one look-up of n, and takes over the caller's reference; surplus says that the table had one already.
func (t *nodeTable) add(n *inode) (id uint64, surplus bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil { // the client has gone
		return 0, true
	}
	if id, ok := t.ids[n]; ok {
		if e := t.node(id); e.count < math.MaxUint32 {
			e.count++
		}
		return id, true
	}
	slot := t.take()
	e := t.at(slot)
	e.inode, e.count = n, 1
	id = uint64(e.turn)<<32 | uint64(slot)
	t.ids[n] = id
	return id, false
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

// forget takes back count look-ups of id, as many as there were at most, and returns the inode when none is left.
func (t *nodeTable) forget(id, count uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.node(id)
	if e == nil || id == rootID {
		return nil
	}
	e.count -= uint32(min(count, uint64(e.count)))
	if e.count > 0 {
		return nil
	}
	n := e.inode
	delete(t.ids, n)
	e.inode = nil
	e.turn++
	if e.turn != 0 { // or all its ids have been used
		t.free = append(t.free, uint32(id))
	}
	return n
}

// all is what the client knows now.
func (t *nodeTable) all() map[uint64]*inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[uint64]*inode, len(t.ids))
	for n, id := range t.ids {
		all[id] = n
	}
	return all
}

// drain forgets all, and returns all but the root.
func (t *nodeTable) drain() []*inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*inode
	for n, id := range t.ids {
		if id != rootID {
			all = append(all, n)
		}
	}
	t.slots, t.free, t.ids = nil, nil, nil
	return all
}
