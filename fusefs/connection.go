package fusefs

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// ConnectOptions say what a front end may do.
type ConnectOptions struct {
	ReadOnly    bool // the client has mounted it so, and asks for no change
	Guest       bool // the client cannot be notified: virtiofs
	Passthrough bool // the kernel has the contents of files in the upper from the host's files, where it can: root's /dev/fuse only
	View        View
}

// A Connection is one front end's way to the union: a fuse.RawFileSystem with node ids and handles of its own.
type Connection struct {
	fuse.RawFileSystem // answers ENOSYS to the requests that are not here

	fs       *FS
	readOnly bool
	guest    bool
	view     View
	profile  profile
	nodes    nodeTable
	handles  handleTable
	files    openFiles
	device   atomic.Pointer[device] // nil: no kernel that can be told of changes
	once     sync.Once

	passthrough passthrough
}

// Connect adds a front end.
func (fs *FS) Connect(o ConnectOptions) *Connection {
	c := &Connection{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		fs:            fs, readOnly: o.ReadOnly || fs.upper == nil, guest: o.Guest, view: o.View,
	}
	c.nodes.start(fs.root)
	c.handles.open = make(map[uint64]*handle)
	c.files.limit = fs.folder.limit
	fs.conns.add(c)
	c.profile = c.profileFor(o)
	return c
}

// Close forgets all that the client looked up or opened. It may be called more than once.
func (c *Connection) Close() {
	c.once.Do(func() {
		c.fs.conns.remove(c)
		c.handles.closeAll()
		c.files.closeAll()
		inodes, stubs := c.nodes.drain()
		for d, count := range stubs {
			c.fs.dropStubs(d, count)
		}
		for _, n := range inodes {
			c.fs.unref(n, 1)
		}
	})
}

// connections are the front ends that are open.
type connections struct {
	mu      sync.Mutex
	open    map[*Connection]struct{}
	writers atomic.Int32
	live    atomic.Bool // the synthetic layer was replaced while a client was there
}

func (s *connections) add(c *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	if !c.readOnly {
		s.writers.Add(1)
	}
}

func (s *connections) remove(c *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	if !c.readOnly {
		s.writers.Add(-1)
	}
}

func (s *connections) closeAll() {
	s.mu.Lock()
	all := make([]*Connection, 0, len(s.open))
	for c := range s.open {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// exclusive reports whether nothing but this client changes the union.
func (c *Connection) exclusive() bool {
	if c.fs.upper == nil {
		return true
	}
	if c.fs.upper.cfg.Shared {
		return false
	}
	writers := c.fs.conns.writers.Load()
	return writers == 0 || writers == 1 && !c.readOnly
}

func (c *Connection) attrTimeout(n *inode) time.Duration {
	if n.showsSynthetic() && !c.believesSynthetic() {
		return c.shortTimeout()
	}
	return c.fileTimeout()
}

// fileTimeout is attrTimeout of what no synthetic layer changes.
func (c *Connection) fileTimeout() time.Duration {
	if !c.exclusive() {
		return c.shortTimeout()
	}
	return c.longTimeout()
}

// entryTimeout is how long a name in d is believed, there or not.
func (c *Connection) entryTimeout(d *inode) time.Duration {
	if !c.exclusive() || d.syntheticNode() != nil && !c.believesSynthetic() {
		return c.shortTimeout()
	}
	return c.longTimeout()
}

// with runs f on the inode of a node id.
func (c *Connection) with(id uint64, f func(n *inode) error) (st fuse.Status) {
	defer func() {
		if v := recover(); v != nil {
			st = panicked(v)
		}
	}()
	n, err := c.node(id)
	if err != nil {
		return status(err)
	}
	return status(f(n))
}

// change is with for requests that write.
func (c *Connection) change(id uint64, f func(n *inode) error) fuse.Status {
	if c.readOnly {
		return fuse.EROFS
	}
	return c.with(id, func(n *inode) error {
		if n.isSandbox() {
			return unix.EROFS
		}
		return f(n)
	})
}

// changeName is change for requests that name something in a folder.
func (c *Connection) changeName(id uint64, name string, f func(d *inode) error) fuse.Status {
	return c.change(id, func(d *inode) error {
		if err := checkName(name); err != nil {
			return err
		}
		if !d.isDir() {
			return unix.ENOTDIR
		}
		if d == c.fs.root && name == sandboxName && d.sandboxChild(name) != nil {
			return unix.EROFS
		}
		if c.fs.upper.hides(name) {
			return unix.EINVAL
		}
		return f(d)
	})
}

// answer gives the client n, whose reference it takes over, as the entry found in d.
func (c *Connection) answer(d, n *inode, out *fuse.EntryOut) error {
	a, err := n.stat()
	if err != nil {
		c.fs.unref(n, 1)
		return err
	}
	c.fill(n.ino, &a, &out.Attr)
	c.enter(d, n, out)
	return nil
}

func (c *Connection) enter(d, n *inode, out *fuse.EntryOut) {
	id, surplus := c.nodes.add(n)
	if surplus {
		c.fs.unref(n, 1)
	}
	out.NodeId, out.Generation = id, 1
	out.SetEntryTimeout(c.entryTimeout(d))
	out.SetAttrTimeout(c.attrTimeout(n))
}

// Lookup finds a name.
func (c *Connection) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return c.with(in.NodeId, func(d *inode) error {
		if len(name) > 255 {
			return unix.ENAMETOOLONG
		}
		if err := checkName(name); err != nil {
			return err
		}
		if !d.isDir() {
			return unix.ENOTDIR
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		err := c.lookup(d, name, out)
		if err == unix.ENOENT {
			// Node 0 with a timeout is a negative entry: the client does not ask again.
			out.NodeId = 0
			out.SetEntryTimeout(c.entryTimeout(d))
			return nil
		}
		return err
	})
}

// lookup gives the client what is at name in d. The caller holds the tree.
func (c *Connection) lookup(d *inode, name string, out *fuse.EntryOut) error {
	full := c.full()
	d.dir.names.RLock()
	defer d.dir.names.RUnlock()
	var room [4]lowerNode // so that finding what is known allocates nothing
	f, err := d.find(name, room[:0])
	if err != nil {
		return err
	}
	s, ok, err := stubOf(&f)
	if err != nil {
		return err
	}
	if ok {
		if err := c.enterStub(d, &s, full, out); err != errNoStub {
			return err
		}
	}
	return c.enterFound(d, name, &f, full, out)
}

// enterFound gives the client the inode of what was found at name in d.
func (c *Connection) enterFound(d *inode, name string, f *found, full error, out *fuse.EntryOut) error {
	n, err := c.fs.intern(d, name, f)
	if err != nil {
		return err
	}
	if err := c.admit(n, full); err != nil {
		return err
	}
	return c.answer(d, n, out)
}

// Forget takes back look-ups; a count beyond those there were is as good as all of them.
func (c *Connection) Forget(id, count uint64) {
	switch n, stub := c.nodes.forget(id, count); {
	case n == nil:
	case stub != nil:
		c.fs.dropStubs(n, 1)
	default:
		c.files.forget(id)
		c.fs.unref(n, 1)
	}
}

// Readlink answers with a symbolic link's target.
func (c *Connection) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	var target []byte
	st := c.with(in.NodeId, func(n *inode) error {
		if n.typ != unix.S_IFLNK {
			return unix.EINVAL
		}
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		var err error
		target, err = n.readlink()
		return err
	})
	return target, st
}

func (n *inode) readlink() ([]byte, error) {
	if !n.inUpper() {
		t, err := n.lowers[0].layer.readlink(n.lowers[0])
		return []byte(t), err
	}
	s, err := n.spot()
	if err != nil {
		return nil, err
	}
	defer s.release()
	var st unix.Stat_t
	if err := s.stat(&st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		t, err := readlinkAt(s)
		return []byte(t), err
	}
	// A link of the upper is a regular file whose contents are the target.
	fd, err := s.open(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4097)
	k, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	if k > 4096 {
		return nil, unix.ENAMETOOLONG
	}
	return buf[:k], nil
}

// Access is the client's to decide, by default_permissions.
func (c *Connection) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	return fuse.ENOSYS
}

func (c *Connection) String() string { return "mica" }
