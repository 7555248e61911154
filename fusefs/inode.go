package fusefs

import (
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A key is what identifies an inode however it is reached: the upper's host inode number, or a layer's.
type key struct {
	space uint32 // upperSpace, or the layer's number + 1
	ino   uint64
}

const upperSpace = 0

const (
	rootIno    = 1
	layerShift = 48
	inoMask    = 1<<layerShift - 1
)

// stIno maps a layer's or the upper's inode number to the union's: the layer in the upper bits, so that it is the same at
// every mount and never another layer's. Numbers that do not fit, which some filesystems have, are folded.
func stIno(space uint32, ino uint64) uint64 {
	if ino > inoMask {
		ino = (ino ^ ino>>layerShift*0x9e3779b97f4a7c15) & inoMask
	}
	if space == upperSpace && ino <= rootIno {
		ino |= 1 << (layerShift - 1)
	}
	return uint64(space)<<layerShift | ino
}

func hashPath(path string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return h.Sum64() & inoMask
}

// A place is one name of an inode in the merged tree. What is in the upper has the same place there.
type place struct {
	parent *inode
	name   string
}

// An inode is one file or folder of the union, shared by all connections.
//
// Locks, in the order in which they may be taken: inode.copying (child before parent), FS.tree, folder.names (parent before
// child), inode.changing, inode.mu, openUppers.mu or table.mu, connections.mu, nodeTable.mu.
type inode struct {
	fs  *FS
	ino uint64 // st_ino
	dir *folder

	refs   int32 // guarded by table.mu
	weight int32 // what it counts in FS.memory, but for its places
	keys   []key // guarded by table.mu

	// copying is held while the inode moves to the upper.
	copying sync.Mutex
	// changing is held while owner and mode are read, changed and written back.
	changing sync.Mutex

	// There is one of these for each file that a client remembers: small fields are together, where they leave no gap.
	mu      sync.RWMutex
	places  []place     // most recent first; a folder has one
	lowers  []lowerNode // a folder's parts, top first; where a file's contents are while they are not in the upper
	host    uint64      // the host's inode number, of what is in the upper
	names   uint64      // how often its names in the upper have changed
	durable uint64      // the change of names that is durable, and all before it
	orphan  *descriptor // O_PATH, once the last known name is gone
	own     owner
	typ     uint32   // S_IF*; never changes
	opens   int32    // handles
	ownSet  bool     // own is known
	upper   bool     // the inode is in the upper, and never leaves it
	meta    bool     // in the upper, but for its contents
	gone    bool     // it has no name
	freed   bool     // its blocks are given back
	caps    tristate // whether it has a security.capability
}

type tristate int8

const (
	unknown tristate = iota
	no
	yes
)

// A folder is what only folders have.
type folder struct {
	// names guards the names in the folder: held for reading by look-ups, for writing by changes.
	names     sync.RWMutex
	listing   *listing
	wasListed bool // there was a listing, which may have readers
	changes   bool // or may, as it comes to the upper

	lowerNames atomic.Pointer[lowerNames]

	opaque  bool         // nothing of the lower layers shows
	whFiles atomic.Int32 // a tristate: whether the upper's folder has whiteouts that are files
	moved   bool         // by a rename: the synthetic layer no longer applies
	linked  bool         // the files of several names in it are in the upper
	view    syntheticView

	defaultACL []byte // guarded by the inode's mu
	aclKnown   bool

	cached cachedFolder
}

func (n *inode) isDir() bool { return n.typ == unix.S_IFDIR }

// table holds the live inodes by all their keys.
type table struct {
	mu     sync.Mutex
	inodes map[key]*inode
	stubs  atomic.Int64 // of all clients
}

// get returns the inode of k with a reference, or nil.
func (t *table) get(k key) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.inodes[k]
	if n != nil {
		n.refs++
	}
	return n
}

// intern returns the inode that k names, with a reference: n when there is none yet.
func (t *table) intern(k key, n *inode) *inode {
	n, woken := t.internOrGet(k, n)
	for _, d := range woken {
		n.fs.dropStubs(d, 1)
	}
	return n
}

// internOrGet is intern. It gives the folders of the stubs that n has been.
func (t *table) internOrGet(k key, n *inode) (_ *inode, woken []*inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.inodes[k]; old != nil && old.typ == n.typ {
		old.refs++
		return old, nil
	}
	n.refs++
	n.keys = append(n.keys, k)
	t.inodes[k] = n
	n.weigh()
	if t.stubs.Load() > 0 {
		woken = n.fs.conns.wake(k, n)
	}
	return n, woken
}

// alias gives n another key.
func (t *table) alias(k key, n *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.keys = append(n.keys, k)
	t.inodes[k] = n
}

// remove takes n out of the table while it is still referenced: its host inode may come back as another file's.
func (t *table) remove(n *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeKeys(n)
}

func (t *table) removeKeys(n *inode) {
	for _, k := range n.keys {
		if t.inodes[k] == n {
			delete(t.inodes, k)
		}
	}
	n.keys = nil
}

func (t *table) ref(n *inode) {
	t.mu.Lock()
	n.refs++
	t.mu.Unlock()
}

// unref drops count references. The last one drops the inode, and its references to the folders it is in.
func (fs *FS) unref(n *inode, count int32) {
	for n != nil {
		fs.table.mu.Lock()
		n.refs -= count
		dead := n.refs <= 0 && n != fs.root
		if dead {
			fs.table.removeKeys(n)
		}
		fs.table.mu.Unlock()
		if !dead {
			return
		}
		var parents []place
		fs.memory.used.Add(-int64(n.weight))
		n.mu.Lock()
		parents, n.places = n.places, nil
		orphan, gone := n.orphan, n.gone
		n.orphan = nil
		n.mu.Unlock()
		if orphan != nil {
			if gone {
				fs.upper.dropLarge(spot{dir: orphan})
			}
			orphan.release()
		}
		if n.dir != nil {
			fs.folder.forget(n)
			n.dir.listing.drop()
		}
		for i, p := range parents {
			fs.memory.used.Add(-p.bytes())
			if i > 0 {
				fs.unref(p.parent, 1)
			}
		}
		n = nil
		if len(parents) > 0 {
			n, count = parents[0].parent, 1
		}
	}
}

// addPlace records that n is at name in d.
func (n *inode) addPlace(d *inode, name string) {
	p := place{d, name}
	n.mu.RLock()
	known := len(n.places) > 0 && n.places[0] == p || slices.Contains(n.places, p) && !n.fs.shared()
	n.mu.RUnlock()
	if known {
		return
	}
	n.mu.Lock()
	var old []place
	if i := slices.Index(n.places, p); i >= 0 {
		n.places[0], n.places[i] = n.places[i], n.places[0]
	} else {
		n.fs.table.ref(d)
		n.fs.memory.used.Add(p.bytes())
		if n.isDir() {
			old, n.places = n.places, nil
		}
		n.places = slices.Insert(n.places, 0, p)
	}
	n.gone = false
	n.mu.Unlock()
	for _, p := range old {
		n.fs.memory.used.Add(-p.bytes())
		n.fs.unref(p.parent, 1)
	}
}

// dropPlace records that n is no longer at name in d.
func (n *inode) dropPlace(d *inode, name string) {
	p := place{d, name}
	n.mu.Lock()
	i := slices.Index(n.places, p)
	if i >= 0 {
		n.places = slices.Delete(n.places, i, i+1)
	}
	n.mu.Unlock()
	if i >= 0 {
		n.fs.memory.used.Add(-p.bytes())
		n.fs.unref(d, 1)
	}
}

func (n *inode) inUpper() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.upper
}

// nearby is where the inode was on the host a moment ago; it must be in the upper. Somebody may be removing that name, so
// what is found there counts only if it is isHost. The caller releases it.
func (n *inode) nearby() (spot, error) {
	if n.isDir() {
		d, err := n.folderFD()
		return spot{dir: d}, err
	}
	n.mu.RLock()
	if n.opens > 0 {
		if d := n.fs.open.hold(n); d != nil {
			n.mu.RUnlock()
			return spot{dir: d}, nil
		}
	}
	if n.orphan != nil && n.orphan.hold() {
		d := n.orphan
		n.mu.RUnlock()
		return spot{dir: d}, nil
	}
	if len(n.places) == 0 {
		n.mu.RUnlock()
		return spot{}, unix.ESTALE
	}
	p := n.places[0]
	n.mu.RUnlock()
	d, err := p.parent.folderFD()
	return spot{dir: d, name: p.name}, err
}

// isHost reports whether st is the inode's host file.
func (n *inode) isHost(st *unix.Stat_t) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.host == st.Ino
}

// errMoved says that a host file was not where it had been a moment ago.
var errMoved = errors.New("host file has moved")

// nearbyDo calls f with the place of the inode's host file, again while f finds that the file has just moved from there.
func (n *inode) nearbyDo(f func(s spot) error) error {
	for pause := time.Duration(1); pause < 1<<16; pause *= 2 {
		s, err := n.nearby()
		if err != nil {
			return err
		}
		err = f(s)
		s.release()
		if err != errMoved && err != unix.ENOENT {
			return err
		}
		// Whoever removes the name is about to say so: it takes microseconds.
		time.Sleep(pause * time.Microsecond)
	}
	return unix.ESTALE
}

// atSpot has do work on the inode's host file, which must be in the upper, while the tree stays as it is.
func (n *inode) atSpot(do func(s spot) error) error {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	s, err := n.spot()
	if err != nil {
		return err
	}
	defer s.release()
	return do(s)
}

// spot pins the inode's host file, which must be in the upper: names may come and go, the spot stays this file.
func (n *inode) spot() (pinned spot, _ error) {
	if n.isDir() {
		return n.nearby()
	}
	err := n.nearbyDo(func(s spot) error {
		if s.name == "" {
			s.dir.hold()
			pinned = s
			return nil
		}
		d, err := n.fs.fds.wrap(s.openPath())
		if err != nil {
			return err
		}
		var st unix.Stat_t
		pinned = spot{dir: d}
		if err = pinned.stat(&st); err == nil && !n.isHost(&st) {
			err = errMoved
		}
		if err != nil {
			d.release()
		}
		return err
	})
	return pinned, err
}
