package spec

import (
	"fmt"
	"sort"
	"strconv"
)

// A reader walks the decoded file and collects mistakes.
type reader struct {
	file *File
	errs Errors
}

// A value is what stands at one path.
type value struct {
	r    *reader
	path []string
	v    any
}

func (v value) name() string { return v.path[len(v.path)-1] }

func (v value) failf(format string, args ...any) { v.fail(fmt.Sprintf(format, args...)) }

func (v value) fail(problem string) {
	v.r.errs = append(v.r.errs, Error{File: v.r.file.label, Line: v.r.file.lines.at(v.path), Key: joinKey(v.path), Problem: problem})
}

// clean says that no mistake was found at v or below it.
func (v value) clean() bool {
	prefix := joinKey(v.path)
	for _, e := range v.r.errs {
		if e.Key == prefix || len(e.Key) > len(prefix) && e.Key[:len(prefix)+1] == prefix+"." {
			return false
		}
	}
	return true
}

// notBuilt refuses a key that is right as far as it goes.
func (v value) notBuilt() {
	if v.clean() {
		v.fail("not built yet: remove the key")
	}
}

// show is the value as the user wrote it, near enough, and short.
func (v value) show() string {
	switch x := v.v.(type) {
	case string:
		return quote(x)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	default:
		return fmt.Sprint(x)
	}
}

func (v value) str() (string, bool) {
	s, ok := v.v.(string)
	if !ok {
		v.failf("%s is not a string: put it in quotes", v.show())
	}
	return s, ok
}

func (v value) nonEmpty() string {
	var s string
	parsed(v, &s, parsePath)
	return s
}

func (v value) boolean() bool {
	b, ok := v.v.(bool)
	if !ok {
		v.failf("%s is not true or false: write one of them", v.show())
	}
	return b
}

func (v value) isNumber() bool {
	_, ok := v.v.(int64)
	return ok
}

// number takes a TOML integer, or a string, by the parser that the command line uses.
func (v value) number(into *int, parse func(string) (int, error)) {
	text, ok := v.v.(string)
	if !ok {
		text = v.show()
	}
	n, err := parse(text)
	if err != nil {
		v.fail(err.Error())
		return
	}
	*into = n
}

func (v value) list() []value {
	list, ok := v.v.([]any)
	if !ok {
		v.failf("%s is not a list: write [%s]", v.show(), listExample(v.v))
		return nil
	}
	out := make([]value, len(list))
	for i, element := range list {
		out[i] = value{r: v.r, path: v.child(index(i)), v: element}
	}
	return out
}

func listExample(v any) string {
	if s, ok := v.(string); ok {
		return quote(s)
	}
	return `"…"`
}

func (v value) table() []value {
	table, ok := v.v.(map[string]any)
	if !ok {
		v.failf("%s is not a table: write [%s]", v.show(), joinKey(v.path))
		return nil
	}
	out := make([]value, 0, len(table))
	for _, name := range sortedKeys(table) {
		out = append(out, value{r: v.r, path: v.child(name), v: table[name]})
	}
	// The file's own order, so that of two mistakes the first is named first.
	sort.SliceStable(out, func(i, j int) bool {
		return v.r.file.lines.at(out[i].path) < v.r.file.lines.at(out[j].path)
	})
	return out
}

func (v value) child(name string) []string {
	return append(append([]string(nil), v.path...), name)
}

// parsed reads a string with parse.
func parsed[T any](v value, into *T, parse func(string) (T, error)) {
	s, ok := v.str()
	if !ok {
		return
	}
	t, err := parse(s)
	if err != nil {
		v.fail(err.Error())
		return
	}
	*into = t
}

// readList reads a list of strings with parse.
func readList[T any](v value, parse func(string) (T, error)) []T {
	var out []T
	for _, element := range v.list() {
		before := len(v.r.errs)
		var t T
		if parsed(element, &t, parse); len(v.r.errs) == before {
			out = append(out, t)
		}
	}
	return out
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
