package differential

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A Case is layers, the bottom first, and what is done on them.
type Case struct {
	Indexed bool // mica reads the layers' indexes
	Layers  []Layer
	Ops     []Op
}

// A difference is what a run has found.
type difference struct {
	Case
	what string
}

// A comparison is the two unions that are compared, and where.
type comparison struct {
	dir       string
	want, got mounter
	through   bool // got passes files through to the kernel
}

// treeEvery is how many operations go between two comparisons of the whole trees.
const treeEvery = 25

// random does count operations of a seed. It returns the difference that it found, or nil.
func (c comparison) random(seed uint64, count int) (*difference, error) {
	g := newGenerator(seed)
	g.through = c.through
	found := &difference{Case: Case{Indexed: seed%2 == 1, Layers: g.layers}}
	err := c.with(found.Case, func(p *pair) error {
		return found.grow(g, p, count)
	})
	if err != nil || found.what == "" {
		return nil, err
	}
	return found, nil
}

// grow adds operations until there is a difference.
func (d *difference) grow(g *generator, p *pair, count int) error {
	var err error
	for i := 0; i <= count && err == nil; i++ {
		if i%treeEvery == 0 || i == count {
			var t trees
			if t, d.what, err = p.trees(); err != nil || d.what != "" {
				return err
			}
			g.saw(t.want, slices.Sorted(maps.Keys(t.want)))
		}
		if i == count {
			return nil
		}
		d.Ops = append(d.Ops, g.op())
		if d.what, err = p.step(d.Ops[i]); d.what != "" {
			return err
		}
	}
	return err
}

// replay does the operations of a case, and compares the whole trees after each so many, and after a remount at the end. It
// returns how many operations it took to see a difference, and the difference, or "".
func (c comparison) replay(k Case, every int) (steps int, what string, err error) {
	err = c.with(k, func(p *pair) error {
		for steps = 0; ; steps++ {
			if steps%every == 0 || steps == len(k.Ops) {
				if _, what, err = p.trees(); what != "" || err != nil {
					return err
				}
			}
			if steps == len(k.Ops) {
				what, err = p.remount()
				return err
			}
			if what, err = p.step(k.Ops[steps]); what != "" || err != nil {
				steps++
				return err
			}
		}
	})
	return steps, what, err
}

// with calls f with the two unions of a case.
func (c comparison) with(k Case, f func(p *pair) error) (err error) {
	b, err := newBench(c.dir, k.Layers, k.Indexed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.remove()) }()
	before, err := b.digest()
	if err != nil {
		return err
	}
	p, err := b.pair(c.want, c.got)
	if err != nil {
		return err
	}
	if err := errors.Join(f(p), p.close()); err != nil {
		return err
	}
	after, err := b.digest()
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("a lower layer has changed:\nwas %s\nis %s", before, after)
	}
	return nil
}
