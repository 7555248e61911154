package fusefs

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"
)

// folderCache keeps the O_PATH descriptors of the upper folders used last, at most limit of them.
type folderCache struct {
	mu     sync.Mutex
	limit  int
	recent list.List // of *inode, most recent first
}

// A cachedFolder is a folder's part of the cache, guarded by its mutex.
type cachedFolder struct {
	fd   *descriptor
	elem *list.Element
}

// maxClimb is how many folders up folderFD goes to one whose descriptor is there: a guest can make folders in folders without
// end, and the stack has one.
const maxClimb = 1 << 16

// folderFD gives the folder's O_PATH descriptor in the upper, held for the caller.
func (n *inode) folderFD() (*descriptor, error) { return n.climb(0) }

func (n *inode) climb(climbed int) (*descriptor, error) {
	if climbed > maxClimb {
		return nil, unix.ENAMETOOLONG
	}
	fs := n.fs
	if n == fs.root {
		fs.upper.root.hold()
		return fs.upper.root, nil
	}
	if d := fs.folder.get(n); d != nil {
		return d, nil
	}
	n.mu.RLock()
	if n.orphan != nil && n.orphan.hold() {
		d := n.orphan
		n.mu.RUnlock()
		return d, nil
	}
	if len(n.places) == 0 {
		n.mu.RUnlock()
		return nil, unix.ESTALE
	}
	p := n.places[0]
	n.mu.RUnlock()
	parent, err := p.parent.climb(climbed + 1)
	if err != nil {
		return nil, err
	}
	defer parent.release()
	d, err := fs.fds.wrap(openBeneath(parent.fd, p.name, unix.O_PATH|unix.O_DIRECTORY, 0))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = (spot{dir: d}).stat(&st)
	if err == nil && !n.isHost(&st) {
		err = unix.ESTALE
	}
	if err != nil {
		d.release()
		return nil, err
	}
	fs.folder.put(n, d)
	return d, nil
}

func (c *folderCache) get(n *inode) *descriptor {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &n.dir.cached
	if f.fd == nil {
		return nil
	}
	c.recent.MoveToFront(f.elem)
	f.fd.hold()
	return f.fd
}

// put caches d, which the caller keeps a reference to.
func (c *folderCache) put(n *inode, d *descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &n.dir.cached
	if f.fd != nil {
		return
	}
	d.hold()
	f.fd, f.elem = d, c.recent.PushFront(n)
	for c.recent.Len() > c.limit {
		c.evict(c.recent.Back().Value.(*inode))
	}
}

func (c *folderCache) evict(n *inode) {
	f := &n.dir.cached
	c.recent.Remove(f.elem)
	f.fd.release()
	f.fd, f.elem = nil, nil
}

func (c *folderCache) forget(n *inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.dir.cached.fd != nil {
		c.evict(n)
	}
}

func (c *folderCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.evict(c.recent.Back().Value.(*inode))
	}
}
