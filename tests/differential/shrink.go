package differential

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// shrinkTime bounds what a failure costs.
const shrinkTime = 3 * time.Minute

// maxPrinted is how many operations are printed of a case that could not be shrunk.
const maxPrinted = 40

// A shrinker looks for the smallest case that still differs.
type shrinker struct {
	comparison
	best     difference
	deadline time.Time
}

// shrink gives the smallest case with a difference that it can find in its time.
func (c comparison) shrink(d difference) difference {
	s := &shrinker{comparison: c, best: d, deadline: time.Now().Add(shrinkTime)}
	if !s.try(d.Case) {
		s.best.what += "\n(not seen again when run again)"
		return s.best
	}
	for size := -1; size != s.size() && !s.late(); {
		size = s.size()
		s.dropOps()
		s.dropFiles()
		s.simplify()
	}
	return s.best
}

func (s *shrinker) late() bool { return time.Now().After(s.deadline) }

func (s *shrinker) size() int {
	n := len(s.best.Ops)
	for _, l := range s.best.Layers {
		n += len(l)
	}
	return n
}

// try takes the case if it still differs, up to the operation that shows it.
func (s *shrinker) try(k Case) bool {
	every := 1
	if len(k.Ops) > 100 {
		every = treeEvery
	}
	steps, what, err := s.replay(k, every)
	if err != nil || what == "" {
		return false
	}
	k.Ops = slices.Clone(k.Ops[:min(steps, len(k.Ops))])
	s.best = difference{Case: k, what: what}
	return true
}

// dropOps leaves out operations, many at a time at first.
func (s *shrinker) dropOps() {
	for chunk := max(len(s.best.Ops)/2, 1); chunk > 0; chunk /= 2 {
		for end := len(s.best.Ops); end > 0 && !s.late(); end -= chunk {
			end = min(end, len(s.best.Ops))
			k := s.best.Case
			k.Ops = slices.Delete(slices.Clone(k.Ops), max(end-chunk, 0), end)
			s.try(k)
		}
	}
}

// dropFiles leaves out files of layers, and layers that are empty.
func (s *shrinker) dropFiles() {
	for i := range s.best.Layers {
		for j := len(s.best.Layers[i]) - 1; j >= 0 && !s.late(); j-- {
			if j >= len(s.best.Layers[i]) {
				continue
			}
			k := s.best.Case
			k.Layers = slices.Clone(k.Layers)
			k.Layers[i] = k.Layers[i].without(j)
			s.try(k)
		}
	}
	for i := len(s.best.Layers) - 1; i >= 0 && len(s.best.Layers) > 1; i-- {
		if len(s.best.Layers[i]) == 0 {
			k := s.best.Case
			k.Layers = slices.Delete(slices.Clone(k.Layers), i, i+1)
			s.try(k)
		}
	}
}

// simplify takes the user and the umask away from operations, and attributes from files.
func (s *shrinker) simplify() {
	for i, op := range s.best.Ops {
		if i < len(s.best.Ops) && (op.As != 0 || op.Umask != 0) && !s.late() {
			k := s.best.Case
			k.Ops = slices.Clone(k.Ops)
			k.Ops[i].As, k.Ops[i].Umask = 0, 0
			s.try(k)
		}
	}
	for i := range s.best.Layers {
		for j := 0; j < len(s.best.Layers[i]) && !s.late(); j++ {
			s.plain(i, j)
		}
	}
}

func (s *shrinker) plain(i, j int) {
	f := s.best.Layers[i][j]
	if f.Link != "" || f.Whiteout || f.Xattrs == nil && f.UID == 0 && f.GID == 0 && !f.Hole {
		return
	}
	k := s.best.Case
	k.Layers = slices.Clone(k.Layers)
	k.Layers[i] = slices.Clone(k.Layers[i])
	f.Xattrs, f.UID, f.GID, f.Hole = nil, 0, 0, false
	k.Layers[i][j] = f
	s.try(k)
}

// String is the case as Go source, for regressions_test.go, after what differs.
func (d difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n{Indexed: %t, Layers: []Layer{\n", d.what, d.Indexed)
	for _, l := range d.Layers {
		b.WriteString("\t{\n")
		for _, f := range l {
			fmt.Fprintf(&b, "\t\t%s,\n", f)
		}
		b.WriteString("\t},\n")
	}
	b.WriteString("}, Ops: []Op{\n")
	if more := len(d.Ops) - maxPrinted; more > 0 {
		fmt.Fprintf(&b, "\t// %d operations before these\n", more)
	}
	for _, op := range d.Ops[max(len(d.Ops)-maxPrinted, 0):] {
		fmt.Fprintf(&b, "\t%s,\n", op)
	}
	b.WriteString("}}")
	return b.String()
}
