package durability

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// A state is what one folder's tree should be.
type state struct {
	files   map[string]int // by path: which file it is a name of
	folders map[string]bool
	data    map[int]string
	mode    map[int]uint32
	next    int
}

func newState() *state {
	return &state{files: map[string]int{}, folders: map[string]bool{}, data: map[int]string{}, mode: map[int]uint32{}}
}

func (s *state) clone() *state {
	return &state{maps.Clone(s.files), maps.Clone(s.folders), maps.Clone(s.data), maps.Clone(s.mode), s.next}
}

func (s *state) add(name, data string) {
	s.files[name], s.data[s.next], s.mode[s.next] = s.next, data, 0o644
	s.next++
}

// overwritten is what a file is after a write at its start.
func overwritten(old, data string) string { return data + old[min(len(old), len(data)):] }

func (s *state) move(old, name string) {
	if id, ok := s.files[old]; ok {
		delete(s.files, old)
		s.files[name] = id
		return
	}
	for _, p := range slices.Collect(maps.Keys(s.files)) {
		if rest, ok := strings.CutPrefix(p, old+"/"); ok {
			s.files[path.Join(name, rest)] = s.files[p]
			delete(s.files, p)
		}
	}
	for _, p := range slices.Collect(maps.Keys(s.folders)) {
		if p == old || strings.HasPrefix(p, old+"/") {
			delete(s.folders, p)
			s.folders[name+strings.TrimPrefix(p, old)] = true
		}
	}
}

func (s *state) empty(folder string) bool {
	for _, all := range [][]string{slices.Collect(maps.Keys(s.files)), slices.Collect(maps.Keys(s.folders))} {
		if slices.ContainsFunc(all, func(p string) bool { return strings.HasPrefix(p, folder+"/") }) {
			return false
		}
	}
	return true
}

func fileLine(name string, mode uint32, links int, data string) string {
	return fmt.Sprintf("%s 0%o links %d size %d %x", name, mode, links, len(data), sha256.Sum256([]byte(data)))
}

// lines tells the state as treeLines tells a tree.
func (s *state) lines() []string {
	links := make(map[int]int)
	for _, id := range s.files {
		links[id]++
	}
	var lines []string
	for name, id := range s.files {
		lines = append(lines, fileLine(name, s.mode[id], links[id], s.data[id]))
	}
	for name := range s.folders {
		lines = append(lines, name+"/")
	}
	slices.Sort(lines)
	return lines
}
