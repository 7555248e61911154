package fusefs

import "sync"

// A nodeTable holds what one client has looked up: node ids are never used again, so that a forged or a stale one is known.
type nodeTable struct {
	mu    sync.Mutex
	last  uint64
	byID  map[uint64]*node
	byPtr map[*inode]*node
}

type node struct {
	id    uint64
	inode *inode
	count uint64 // look-ups the client has not forgotten
}

// rootID is FUSE's node id of the root.
const rootID = 1

func (t *nodeTable) start(root *inode) {
	r := &node{id: rootID, inode: root, count: 1}
	t.last = rootID
	t.byID = map[uint64]*node{rootID: r}
	t.byPtr = map[*inode]*node{root: r}
}

// get returns the inode of id, or nil. The reference is the client's.
func (t *nodeTable) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[id]; n != nil {
		return n.inode
	}
	return nil
}

// add counts one look-up of n, and takes over the caller's reference; surplus says that the table had one already.
func (t *nodeTable) add(n *inode) (id uint64, surplus bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byPtr[n]
	if e != nil {
		e.count++
		return e.id, true
	}
	t.last++
	e = &node{id: t.last, inode: n, count: 1}
	t.byID[e.id], t.byPtr[n] = e, e
	return e.id, false
}

// knows reports whether the client has looked n up.
func (t *nodeTable) knows(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byPtr[n] != nil
}

// forget takes back count look-ups of id, as many as there were at most, and returns the inode when none is left.
func (t *nodeTable) forget(id, count uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil || id == rootID {
		return nil
	}
	e.count -= min(count, e.count)
	if e.count > 0 {
		return nil
	}
	delete(t.byID, id)
	delete(t.byPtr, e.inode)
	return e.inode
}

// all is what the client knows now.
func (t *nodeTable) all() map[uint64]*inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[uint64]*inode, len(t.byID))
	for id, e := range t.byID {
		all[id] = e.inode
	}
	return all
}

// drain forgets all but the root.
func (t *nodeTable) drain() []*inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*inode
	for id, e := range t.byID {
		if id != rootID {
			all = append(all, e.inode)
		}
	}
	t.byID, t.byPtr = nil, nil
	return all
}
