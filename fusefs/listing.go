package fusefs

import (
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// A listing is a folder's names in a stable order, merged once. Each entry has a cookie that is never another's while the
// folder is known, so that reading goes on where it stopped whatever was added or removed, with no state in the handle.
type listing struct {
	entries []listEntry       // ascending by cookie; without a name: removed
	cookies map[string]uint64 // by name; made when first needed
	next    uint64
	removed int
	touched bool // by a change: merging again would give other cookies

	memory *memory
	weight int64 // what it counts there
}

func newListing(fs *FS) *listing { return &listing{next: firstCookie, memory: &fs.memory} }

// weigh counts an entry more, or less.
func (l *listing) weigh(bytes int64) {
	l.weight += bytes
	l.memory.used.Add(bytes)
}

// drop ends a listing, if there is one.
func (l *listing) drop() {
	if l != nil {
		l.weigh(-l.weight)
	}
}

type listEntry struct {
	name   string
	cookie uint64
	ino    uint64 // st_ino
	kind   uint32 // S_IF*; 0: a look-up tells it and the inode number
}

// Cookies 1 and 2 are "." and "..".
const firstCookie = 3

// from is the index of the first entry after a cookie.
func (l *listing) from(cookie uint64) int {
	return sort.Search(len(l.entries), func(i int) bool { return l.entries[i].cookie > cookie })
}

func (l *listing) index() map[string]uint64 {
	if l.cookies == nil {
		l.cookies = make(map[string]uint64, len(l.entries))
		for _, e := range l.entries {
			if e.name != "" {
				l.cookies[e.name] = e.cookie
			}
		}
	}
	return l.cookies
}

func (l *listing) add(e listEntry) {
	l.touched = true
	if cookie, ok := l.index()[e.name]; ok {
		e.cookie = cookie
		l.entries[l.from(cookie-1)] = e
		return
	}
	e.cookie = l.next
	l.next++
	l.weigh(e.bytes())
	l.entries = append(l.entries, e)
	l.cookies[e.name] = e.cookie
}

func (l *listing) remove(name string) {
	l.touched = true
	cookie, ok := l.index()[name]
	if !ok {
		return
	}
	delete(l.cookies, name)
	e := &l.entries[l.from(cookie-1)]
	l.weigh(-e.bytes())
	e.name = ""
	if l.removed++; l.removed > len(l.entries)/2+16 {
		l.entries = slices.DeleteFunc(l.entries, func(e listEntry) bool { return e.name == "" })
		l.removed = 0
	}
}

// note records in the listing, if there is one, that n is at name. The caller holds the folder's names for writing, as for
// unnote.
func (f *folder) note(name string, n *inode) {
	if f.listing != nil {
		f.listing.add(listEntry{name: name, ino: n.ino, kind: n.typ})
	}
}

func (f *folder) unnote(name string) {
	if f.listing != nil {
		f.listing.remove(name)
	}
}

// list makes the folder's listing if need be, or brings it up to date. The caller holds d's names for writing.
func (d *inode) list() error {
	entries, err := d.merge()
	if err != nil {
		return err
	}
	if d.dir.listing == nil {
		d.dir.listing = newListing(d.fs)
		d.dir.listing.begin(entries)
		return nil
	}
	d.dir.listing.update(entries)
	return nil
}

// begin takes the entries of a new listing.
func (l *listing) begin(entries []listEntry) {
	for i := range entries {
		entries[i].cookie = l.next
		l.next++
		l.weigh(entries[i].bytes())
	}
	l.entries = entries
}

// letGo drops the listing of a folder that has been read to its end, if only indexed layers have it: they give the same again, and
// soon. When it comes to the upper, it is listed once more, so that cookies stay what they were.
func (d *inode) letGo() {
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	l := d.dir.listing
	indexed := !slices.ContainsFunc(d.lowers, func(p lowerNode) bool { _, ok := p.layer.(*indexedLower); return !ok })
	if l == nil || !indexed || l.touched || d.dir.changes || d.inUpper() || d.isGone() || d.syntheticNode() != nil || d.fs.shared() {
		return
	}
	l.drop()
	d.dir.listing, d.dir.wasListed = nil, true
}

// keepListing has the folder, which is about to come to the upper, keep its listing from now on.
func (d *inode) keepListing() error {
	d.dir.names.Lock()
	defer d.dir.names.Unlock()
	d.dir.changes = true
	if !d.dir.wasListed || d.dir.listing != nil {
		return nil
	}
	return d.list()
}

// update makes what is listed be entries.
func (l *listing) update(entries []listEntry) {
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		seen[e.name] = true
		l.add(e)
	}
	for _, e := range slices.Clone(l.entries) {
		if e.name != "" && !seen[e.name] {
			l.remove(e.name)
		}
	}
}

// merge reads what the folder shows, sorted by name.
func (d *inode) merge() ([]listEntry, error) {
	if d.isGone() {
		return nil, nil
	}
	m := merger{dir: d}
	if len(d.lowers) > 1 || d.inUpper() || d.syntheticNode() != nil {
		m.seen = make(map[string]bool)
	}
	if s := d.sandboxNode(); s != nil {
		m.addSandbox(s)
	}
	if !d.isSandbox() {
		if err := m.addUpper(); err != nil {
			return nil, err
		}
	}
	m.addSynthetic(false)
	for _, p := range d.lowers {
		if _, ok := p.layer.(*syntheticLower); ok {
			continue
		}
		if err := m.addLower(p); err != nil {
			return nil, err
		}
	}
	m.addSynthetic(true)
	if m.bytes > m.dir.fs.memory.max {
		return nil, unix.ENOMEM
	}
	slices.SortFunc(m.entries, func(a, b listEntry) int { return strings.Compare(a.name, b.name) })
	return m.entries, nil
}

// A merger collects names, from the top down: the first to say something of a name is right.
type merger struct {
	dir     *inode
	seen    map[string]bool // nil: there is one source only
	entries []listEntry
	bytes   int64 // of the entries
}

// add adds a name, unless there are more already than can be remembered.
func (m *merger) add(e listEntry) {
	if !m.seen[e.name] && m.bytes <= m.dir.fs.memory.max {
		m.bytes += e.bytes()
		m.hide(e.name)
		m.entries = append(m.entries, e)
	}
}

// hide leaves name to what has been said of it.
func (m *merger) hide(name string) {
	if m.seen != nil {
		m.seen[name] = true
	}
}

// sandboxNode is the synthetic node of /.sandbox when d is the root.
func (d *inode) sandboxNode() *syntheticNode {
	if d != d.fs.root {
		return nil
	}
	return d.sandboxChild(sandboxName)
}

func (m *merger) addSandbox(s *syntheticNode) {
	m.add(syntheticEntry(sandboxName, s))
}

func syntheticEntry(name string, s *syntheticNode) listEntry {
	return listEntry{name: name, ino: stIno(syntheticSpace, hashPath(s.path)), kind: s.mode & unix.S_IFMT}
}

// addSynthetic adds the synthetic names: those that win over the layers, or those that give way.
func (m *merger) addSynthetic(ifMissing bool) {
	s := m.dir.syntheticNode()
	if s == nil {
		return
	}
	for _, name := range s.names {
		// What may be a folder of the layers too is the layers' to number.
		c := s.children[name]
		if late := c.ifMissing || c.isDir(); late == ifMissing {
			m.add(syntheticEntry(name, c))
		}
	}
}

func (m *merger) addUpper() error {
	d := m.dir
	if !d.inUpper() {
		return nil
	}
	fd, err := d.folderFD()
	if err != nil {
		return err
	}
	defer fd.release()
	u := d.fs.upper
	var whFiles []string
	err = readFolder(spot{dir: fd}, func(name string, _ uint64, kind uint32) error {
		if u.hides(name) {
			if hidden, ok := strings.CutPrefix(name, whPrefix); ok && u.cfg.RealOwners {
				whFiles = append(whFiles, hidden)
			}
			return nil
		}
		if kind == unix.S_IFCHR || kind == 0 {
			var st unix.Stat_t
			if err := (spot{dir: fd, name: name}).stat(&st); err != nil {
				if err == unix.ENOENT {
					return nil
				}
				return err
			}
			if isWhiteout(&st) {
				m.hide(name)
				return nil
			}
		}
		m.add(listEntry{name: name})
		return nil
	})
	for _, name := range whFiles {
		m.hide(name)
	}
	return err
}

func (m *merger) addLower(p lowerNode) error {
	return p.layer.entries(p, func(e lowerEntry) {
		if e.whiteout {
			m.hide(e.name)
			return
		}
		m.add(listEntry{name: e.name, ino: stIno(uint32(p.layer.number()+1), e.ino), kind: e.mode})
	})
}
