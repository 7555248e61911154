package fusefs

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"
)

// openFiles keeps the files read last open, at most limit of them, for a client that reads by node. It counts as no open:
// that the client knows the node keeps the inode.
type openFiles struct {
	mu     sync.Mutex
	limit  int
	byNode map[uint64]*list.Element
	recent list.List // of openFile, most recent first
}

type openFile struct {
	node uint64
	d    *descriptor
}

// get gives the descriptor of n's contents, held for the caller.
func (f *openFiles) get(n *inode, node uint64) (*descriptor, error) {
	if n.typ != unix.S_IFREG {
		return nil, unix.EBADF
	}
	if d := f.find(node); d != nil {
		return d, nil
	}
	n.fs.tree.RLock()
	d, err := n.openContents(unix.O_RDONLY)
	n.fs.tree.RUnlock()
	if err != nil {
		return nil, err
	}
	f.put(node, d)
	return d, nil
}

func (f *openFiles) find(node uint64) *descriptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.byNode[node]
	if e == nil {
		return nil
	}
	f.recent.MoveToFront(e)
	d := e.Value.(openFile).d
	d.hold()
	return d
}

// put keeps d, which the caller keeps a reference to, in the place of what another request has just opened.
func (f *openFiles) put(node uint64, d *descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byNode == nil {
		f.byNode = make(map[uint64]*list.Element)
	}
	if e := f.byNode[node]; e != nil {
		f.drop(e)
	}
	d.hold()
	f.byNode[node] = f.recent.PushFront(openFile{node, d})
	for f.recent.Len() > f.limit {
		f.drop(f.recent.Back())
	}
}

func (f *openFiles) drop(e *list.Element) {
	o := f.recent.Remove(e).(openFile)
	delete(f.byNode, o.node)
	o.d.release()
}

// forget drops the node.
func (f *openFiles) forget(node uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.byNode[node]; e != nil {
		f.drop(e)
	}
}

func (f *openFiles) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.recent.Len() > 0 {
		f.drop(f.recent.Back())
	}
}
