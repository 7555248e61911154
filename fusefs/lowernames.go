package fusefs

import "hash/maphash"

// manyParts is how many layers a folder has to be in for its names to be merged: fewer are asked one after the other for less.
const manyParts = 4

// A lowerNames knows for each name of a folder that is in many layers the topmost of them that has it, or hides it: a look-up
// costs the same however many there are. Two names of one hash share the higher of their layers.
type lowerNames struct {
	parts []lowerNode // what was merged
	seed  maphash.Seed
	top   map[uint32]uint16 // index into parts, by the name's hash
}

// topmost is the first of d's lower parts that may know name: the number of parts when none does.
func (d *inode) topmost(name string) (int, error) {
	if len(d.lowers) < manyParts {
		return 0, nil
	}
	l := d.dir.lowerNames.Load()
	if l == nil || !l.describes(d.lowers) {
		var err error
		if l, err = mergeNames(d.lowers); err != nil {
			return 0, err
		}
		d.dir.lowerNames.Store(l)
	}
	if l.top == nil {
		return 0, nil
	}
	if i, ok := l.top[l.hash(name)]; ok {
		return int(i), nil
	}
	return len(d.lowers), nil
}

// describes reports whether parts, which are replaced and never changed, are what was merged.
func (l *lowerNames) describes(parts []lowerNode) bool {
	return len(l.parts) == len(parts) && &l.parts[0] == &parts[0]
}

// mergeNames merges the names of parts. What is in plain folders, which may change, is not merged: top is nil.
func mergeNames(parts []lowerNode) (*lowerNames, error) {
	l := &lowerNames{parts: parts, seed: maphash.MakeSeed()}
	top := make(map[uint32]uint16)
	for i, p := range parts {
		switch p.layer.(type) {
		case *syntheticLower: // look-ups ask it before the layers
			continue
		case *folderLower:
			return l, nil
		}
		err := p.layer.entries(p, func(e lowerEntry) {
			h := l.hash(e.name)
			if _, known := top[h]; !known {
				top[h] = uint16(i)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	l.top = top
	return l, nil
}

func (l *lowerNames) hash(name string) uint32 { return uint32(maphash.String(l.seed, name)) }
