package fusefs

import "sync"

// openUppers knows, of each file in the upper that clients have open, one descriptor of theirs. It reaches the file, whatever
// becomes of its names, without a look at the host's folders.
type openUppers struct {
	mu sync.RWMutex
	of map[*inode]*descriptor // not held: who closes one removes it first
}

func (o *openUppers) add(n *inode, d *descriptor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of[n] == nil {
		o.of[n] = d
	}
}

func (o *openUppers) remove(n *inode, d *descriptor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of[n] == d {
		delete(o.of, n)
	}
}

// hold gives the descriptor, held for the caller, or nil.
func (o *openUppers) hold(n *inode) *descriptor {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if d := o.of[n]; d != nil && d.hold() {
		return d
	}
	return nil
}
