package durability

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// longAgo is the time of all that is in the layers: what is newer was changed.
const longAgo = 1_000_000_000

// layerShift is where st_ino has the layer: what has none was made in the upper, and has another number in each run.
const layerShift = 48

// dump tells all that a client sees of the tree below dir, a line for each path, sorted.
func (c client) dump(dir string) ([]string, error) {
	var lines []string
	err := c.walk(dir, func(name string, e fuse.EntryOut) error {
		line, err := c.describe(name, e)
		lines = append(lines, line)
		return err
	})
	return lines, err
}

func (c client) walk(dir string, visit func(name string, e fuse.EntryOut) error) error {
	names, err := c.list(dir)
	if err != nil {
		return fmt.Errorf("list /%s: %w", dir, err)
	}
	for _, name := range names {
		name = path.Join(dir, name)
		e, err := c.entry(name)
		if err != nil {
			return fmt.Errorf("look up %s, which is listed: %w", name, err)
		}
		if err := visit(name, e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := c.walk(name, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c client) list(dir string) ([]string, error) {
	e, err := c.entry(dir)
	if err != nil {
		return nil, err
	}
	out := fuse.NewDirEntryList(make([]byte, 256<<10), 0)
	if st := c.c.ReadDir(nil, &fuse.ReadIn{InHeader: header(e.NodeId)}, out); !st.Ok() {
		return nil, unix.Errno(st)
	}
	entries, err := fuse.ParseDirEntries(out.Bytes())
	var names []string
	for _, e := range entries {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names, err
}

func (c client) describe(name string, e fuse.EntryOut) (string, error) {
	line := fmt.Sprintf("%s 0%o %d:%d links %d", name, e.Mode, e.Uid, e.Gid, e.Nlink)
	if e.Ino>>layerShift != 0 {
		line += fmt.Sprintf(" ino %x", e.Ino)
	}
	if e.Mtime == longAgo {
		line += " old"
	}
	h := header(e.NodeId)
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := c.read(name)
		if err != nil {
			return line, fmt.Errorf("read: %w", err)
		}
		line += fmt.Sprintf(" size %d %x", e.Size, sha256.Sum256(data))
	case unix.S_IFLNK:
		target, st := c.c.Readlink(nil, &h)
		if !st.Ok() {
			return line, unix.Errno(st)
		}
		line += " -> " + string(target)
	}
	attrs, err := c.xattrs(h)
	return line + attrs, err
}

func (c client) xattrs(h fuse.InHeader) (string, error) {
	buf := make([]byte, 64<<10)
	n, st := c.c.ListXAttr(nil, &h, buf)
	if !st.Ok() {
		return "", unix.Errno(st)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var line string
	for _, name := range names {
		if name == "" {
			continue
		}
		n, st := c.c.GetXAttr(nil, &h, name, buf)
		if !st.Ok() {
			return "", unix.Errno(st)
		}
		line += fmt.Sprintf(" %s=%q", name, buf[:n])
	}
	return line, nil
}

// sameTree compares dumps, but for the times of folders: what is made and taken back changes those.
func sameTree(a, b []string) bool {
	return slices.EqualFunc(a, b, func(a, b string) bool { return withoutTime(a) == withoutTime(b) })
}

func withoutTime(line string) string {
	if strings.Contains(line, " 040") {
		return strings.TrimSuffix(line, " old")
	}
	return line
}

func withoutTimes(lines []string) []string {
	var all []string
	for _, line := range lines {
		all = append(all, strings.Replace(line, " old", "", 1))
	}
	return all
}

// difference says in what two dumps differ.
func difference(got, want []string) string {
	var b strings.Builder
	for _, line := range got {
		if !slices.Contains(want, line) {
			fmt.Fprintf(&b, "\n\tis     %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			fmt.Fprintf(&b, "\n\tshould %s", line)
		}
	}
	return b.String()
}
