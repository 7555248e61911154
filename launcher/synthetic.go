package launcher

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// resolvConf is for an image that names no nameserver of its own.
const resolvConf = "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"

const maxResolvConf = 64 << 10 // bytes that are looked through for a nameserver

// Synthetic is what the root has between the image's layers and the upper: scripts, name resolution, the hostname, mount points, and the
// folders that every system has. Lower reads a file of the image's layers, as FS.ReadLower does. The entries are sorted by path.
func Synthetic(p *Plan, lower func(path string, max int) ([]byte, error)) []fusefs.SyntheticEntry {
	t := syntheticTree{}
	for _, d := range []struct {
		path string
		mode uint32
	}{{"/dev", 0o755}, {"/proc", 0o555}, {"/run", 0o755}, {"/sys", 0o555}, {"/tmp", 0o1777}} {
		t.addIfMissing(d.path, d.mode)
	}
	t.folder(scriptsDir)
	for _, script := range p.Scripts {
		t.file(path.Join(scriptsDir, script.Name), 0o755, script.Text)
	}
	if !namesServer(lower) {
		t.file("/etc/resolv.conf", 0o644, resolvConf)
	}
	t.file("/etc/hostname", 0o644, p.Hostname+"\n")
	t.file("/etc/hosts", 0o644, hosts(p.Hostname))
	for _, v := range p.Volumes {
		t.mountPoint(v.Guest)
	}
	return t.sorted()
}

// namesServer says whether the image's resolv.conf has a nameserver. Anything but a plain file, a link above all, counts as none.
func namesServer(lower func(string, int) ([]byte, error)) bool {
	text, err := lower("/etc/resolv.conf", maxResolvConf)
	if err != nil {
		return false
	}
	return bytes.HasPrefix(text, []byte("nameserver ")) || bytes.Contains(text, []byte("\nnameserver "))
}

func hosts(hostname string) string {
	own := hostname
	if short, _, dotted := strings.Cut(hostname, "."); dotted {
		own += " " + short
	}
	return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + own + "\n"
}

// A syntheticTree is entries by path.
type syntheticTree map[string]fusefs.SyntheticEntry

func (t syntheticTree) file(name string, perm uint32, text string) {
	t.parents(name)
	t[name] = fusefs.SyntheticEntry{Path: name, Mode: unix.S_IFREG | perm, Data: []byte(text)}
}

// folder adds a folder that is mica's alone.
func (t syntheticTree) folder(name string) {
	for ; name != "/"; name = path.Dir(name) {
		t[name] = fusefs.SyntheticEntry{Path: name, Mode: unix.S_IFDIR | 0o755}
	}
}

// mountPoint adds a folder that gives way to the image's, as those above it do.
func (t syntheticTree) mountPoint(name string) {
	t.parents(name)
	t.addIfMissing(name, 0o755)
}

func (t syntheticTree) parents(name string) {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		t.addIfMissing(dir, 0o755)
	}
}

func (t syntheticTree) addIfMissing(name string, perm uint32) {
	if _, ok := t[name]; !ok {
		t[name] = fusefs.SyntheticEntry{Path: name, Mode: unix.S_IFDIR | perm, IfMissing: true}
	}
}

func (t syntheticTree) sorted() []fusefs.SyntheticEntry {
	entries := make([]fusefs.SyntheticEntry, 0, len(t))
	for _, e := range t {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b fusefs.SyntheticEntry) int { return strings.Compare(a.Path, b.Path) })
	return entries
}
