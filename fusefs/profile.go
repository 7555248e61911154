package fusefs

import "github.com/hanwen/go-fuse/v2/fuse"

// A profile is how much a client's kernel does without the server. A kernel that is told so once neither opens nor closes:
// what it has cached it serves itself, and what it has not it asks for by node.
type profile struct {
	noOpen      bool // files are read by node
	noOpenDir   bool // folders are cached, and read by node
	passthrough bool // contents of files in the upper are the kernel's
}

// profileFor chooses what is right for a client.
//
// Without OPEN, nobody says who has a file open or for what: right where nobody writes. With passthrough, whoever opens a file gets it.
// Without OPENDIR, all folders are cached: right where all changes are the client's own. Of the synthetic layer's a client is
// told, or sees them by the folder's time, which it asks for every second.
func (c *Connection) profileFor(o ConnectOptions) profile {
	own := !c.fs.shared() && c.exclusive()
	return profile{
		noOpen:    own && !c.guest && o.ReadOnly && c.fs.upper == nil,
		noOpenDir: own,
		// A limit counts what is written.
		passthrough: o.Passthrough && own && !c.guest && !o.ReadOnly && c.fs.upper != nil && c.fs.upper.limit.max == 0,
	}
}

// tune gives the FUSE settings of a client of this profile.
func (p profile) tune(o *fuse.MountOptions) {
	if p.noOpen {
		o.DisabledCapabilities &^= fuse.CAP_NO_OPEN_SUPPORT
		// Attributes come out of the layers' indexes: it costs less to send them unasked than to be asked.
		o.ExtraCapabilities &^= fuse.CAP_READDIRPLUS_AUTO
	}
	if p.passthrough {
		o.DisabledCapabilities &^= fuse.CAP_PASSTHROUGH
		o.MaxStackDepth = 1
	}
	if p.noOpenDir {
		o.ExtraCapabilities |= fuse.CAP_NO_OPENDIR_SUPPORT
	}
}

// believesSynthetic reports whether the client believes the synthetic layer for long: its kernel can be told of a change, and
// there has been none so far.
func (c *Connection) believesSynthetic() bool {
	return !c.guest && c.device.Load() != nil && !c.fs.conns.live.Load()
}

// replaceSynthetic has every client that can be told forget what the synthetic layer made it believe. From now on, all believe
// it for a second only.
func (s *connections) replaceSynthetic(replace func() (was, is *syntheticTree)) {
	s.mu.Lock()
	s.live.Store(len(s.open) > 0)
	var told []*Connection
	for c := range s.open {
		if !c.guest && c.device.Load() != nil {
			told = append(told, c)
		}
	}
	s.mu.Unlock()
	was, is := replace()
	for _, c := range told {
		c.forgetSynthetic(was, is)
	}
}

// forgetSynthetic tells the kernel; what it does not know is no error.
func (c *Connection) forgetSynthetic(was, is *syntheticTree) {
	device := c.device.Load()
	for id, n := range c.nodes.all() {
		if !n.isDir() {
			if n.isSynthetic() {
				c.files.forget(id)
				_ = device.forgetInode(id)
			}
			continue
		}
		for _, t := range []*syntheticTree{was, is} {
			d := t.find(n.path())
			if d == nil {
				continue
			}
			_ = device.forgetInode(id)
			for _, name := range d.names {
				_ = device.forgetEntry(id, name)
			}
		}
	}
}

// path is the folder's path in the union.
func (n *inode) path() string {
	path := ""
	for {
		n.mu.RLock()
		if len(n.places) == 0 {
			n.mu.RUnlock()
			return path
		}
		p := n.places[0]
		n.mu.RUnlock()
		path, n = "/"+p.name+path, p.parent
	}
}

// contents gives what a request for an open file works on, the descriptor held: what the client has opened, or without OPEN
// what its node is.
func (c *Connection) contents(n *inode, node, id uint64) (*handle, *descriptor, error) {
	if c.profile.noOpen {
		d, err := c.files.get(n, node)
		return &handle{inode: n}, d, err
	}
	h, err := c.handles.get(id, n)
	if err != nil {
		return nil, nil, err
	}
	d, err := h.data()
	return h, d, err
}
