package spec

import (
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A lineMap says on which line of the file a key stands. Its keys are paths joined by NUL; an array's elements are keys of their own,
// named by index.
type lineMap map[string]int

// index is the name of an array's element i in a path. No TOML key that mica knows looks like it.
func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// at returns the line of path, or of the nearest table or key around it.
func (m lineMap) at(path []string) int {
	for n := len(path); n > 0; n-- {
		if line, ok := m[strings.Join(path[:n], "\x00")]; ok {
			return line
		}
	}
	return 1
}

// mapLines finds the line of every key in data, which is known to be TOML.
func mapLines(data []byte) lineMap {
	w := lineWalk{lines: lineMap{}}
	for i, c := range data {
		if c == '\n' {
			w.ends = append(w.ends, i)
		}
	}
	w.parser.Reset(data)
	var table []string
	for w.parser.NextExpression() {
		node := w.parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = w.key(nil, node)
		case unstable.KeyValue:
			w.value(w.key(table, node), node.Value())
		}
	}
	return w.lines
}

type lineWalk struct {
	parser unstable.Parser
	ends   []int // offsets of the newlines
	lines  lineMap
}

// key notes the lines of node's dotted key, part by part, and returns its whole path.
func (w *lineWalk) key(base []string, node *unstable.Node) []string {
	path := append([]string(nil), base...)
	for it := node.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		w.note(path, it.Node())
	}
	return path
}

func (w *lineWalk) value(path []string, node *unstable.Node) {
	it := node.Children()
	switch node.Kind {
	case unstable.Array:
		for i := 0; it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			element := append(append([]string(nil), path...), index(i))
			w.note(element, it.Node())
			w.value(element, it.Node())
			i++
		}
	case unstable.InlineTable:
		for it.Next() {
			if it.Node().Kind == unstable.KeyValue {
				w.value(w.key(path, it.Node()), it.Node().Value())
			}
		}
	}
}

// note keeps the first line that a path is seen on. Nodes without a place of their own (arrays, booleans) are left to what is around them.
func (w *lineWalk) note(path []string, node *unstable.Node) {
	if node.Raw.Length == 0 {
		return
	}
	name := strings.Join(path, "\x00")
	if _, seen := w.lines[name]; !seen {
		w.lines[name] = 1 + sort.SearchInts(w.ends, int(node.Raw.Offset))
	}
}

// joinKey writes a path as TOML does: dotted, parts quoted where they must be; an array's index is left to the line number.
func joinKey(path []string) string {
	var parts []string
	for _, p := range path {
		switch {
		case strings.HasPrefix(p, "["):
			continue
		case bareKey(p):
			parts = append(parts, p)
		default:
			parts = append(parts, strconv.Quote(p))
		}
	}
	return strings.Join(parts, ".")
}

func bareKey(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}
