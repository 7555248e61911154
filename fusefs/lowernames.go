package fusefs

import (
	"hash/maphash"

	"github.com/micavm/mica/layers/index"
)

// manyParts is how many layers a folder has to be in for its names to be merged: fewer are asked one after the other for less.
const manyParts = 4

// A lowerNames knows for each name of a folder that is in many layers where the topmost of them has it, or hides it: a look-up
// costs the same however many there are.
type lowerNames struct {
	parts []lowerNode // what was merged
	seed  maphash.Seed
	slots []nameSlot // a hash table, half of it empty; nil when nothing could be merged
}

// A nameSlot is where a name is: the entry nth of a part.
type nameSlot struct {
	tag  uint16 // of the name's hash, the bits that do not choose the slot
	part uint16 // index into parts, + 1; 0: the slot is empty
	nth  uint32
}

// A topmost is what the merged names say of one: that the layers above part know nothing of it, and of part what it has.
type topmost struct {
	part  int
	known bool // entry is what part has; else it is to be asked
	entry index.Entry
}

// topmost looks name up in the merged names of d's lower parts.
func (d *inode) topmost(name string) (topmost, error) {
	if len(d.lowers) < manyParts {
		return topmost{}, nil
	}
	l := d.dir.lowerNames.Load()
	if l == nil || !l.describes(d.lowers) {
		var err error
		if l, err = mergeNames(d.lowers); err != nil {
			return topmost{}, err
		}
		d.dir.lowerNames.Store(l)
	}
	if l.slots == nil {
		return topmost{}, nil
	}
	slot, e, err := l.find(name)
	if err != nil {
		return topmost{}, err
	}
	if slot.part == 0 {
		return topmost{part: len(d.lowers)}, nil
	}
	return topmost{part: int(slot.part) - 1, known: true, entry: e}, nil
}

// lookup is the look-up of name in p, which is part the first time, and then one below it.
func (t *topmost) lookup(p lowerNode, name string) (lowerNode, error) {
	if !t.known {
		return p.layer.lookup(p, name)
	}
	t.known = false
	return p.layer.(*indexedLower).found(&t.entry)
}

// describes reports whether parts, which are replaced and never changed, are what was merged.
func (l *lowerNames) describes(parts []lowerNode) bool {
	return len(l.parts) == len(parts) && &l.parts[0] == &parts[0]
}

// mergeNames merges the names of parts. What is in plain folders, which may change, is not merged.
func mergeNames(parts []lowerNode) (*lowerNames, error) {
	l := &lowerNames{parts: parts, seed: maphash.MakeSeed()}
	names := uint32(0)
	for _, p := range parts {
		switch layer := p.layer.(type) {
		case *folderLower:
			return l, nil
		case *indexedLower:
			count, err := layer.index.Count(index.Ino(p.ino))
			if err != nil {
				return nil, err
			}
			names += count
		}
	}
	size := 1
	for size < 2*int(names) {
		size *= 2
	}
	l.slots = make([]nameSlot, size)
	for i, p := range parts {
		layer, ok := p.layer.(*indexedLower)
		if !ok { // look-ups ask the synthetic layer before the others
			continue
		}
		if err := l.add(i, layer, index.Ino(p.ino)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// add adds what the folder dir has, which is part i, and no part above it.
func (l *lowerNames) add(i int, layer *indexedLower, dir index.Ino) error {
	nth := uint32(0)
	for e, err := range layer.index.Entries(dir) {
		if err != nil {
			return err
		}
		slot, _, err := l.find(e.Name)
		if err != nil {
			return err
		}
		if slot.part == 0 {
			*slot = nameSlot{tag: uint16(l.hash(e.Name) >> 48), part: uint16(i) + 1, nth: nth}
		}
		nth++
	}
	return nil
}

// find gives the slot of a name, and its entry; or the empty slot where it belongs.
func (l *lowerNames) find(name string) (*nameSlot, index.Entry, error) {
	h := l.hash(name)
	for at := h; ; at++ {
		slot := &l.slots[at&uint64(len(l.slots)-1)]
		if slot.part == 0 {
			return slot, index.Entry{}, nil
		}
		if slot.tag != uint16(h>>48) {
			continue
		}
		p := l.parts[slot.part-1]
		e, err := p.layer.(*indexedLower).index.Entry(index.Ino(p.ino), slot.nth)
		if err != nil || e.Name == name {
			return slot, e, err
		}
	}
}

func (l *lowerNames) hash(name string) uint64 { return maphash.String(l.seed, name) }
