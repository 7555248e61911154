// Package tree reads a folder whole, with all that a filesystem says about a file, and says how two of them differ.
package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Node is what is known of one name. Times are left out: layers have them, but copies need not.
type Node struct {
	Mode   uint32 // type and permissions, as stat(2) has them
	UID    uint32
	GID    uint32
	Rdev   uint64 // of a device
	Size   int64  // of a regular file
	Target string // of a symbolic link
	Digest string // SHA-256 of a regular file's contents, hexadecimal
	Linked string // the first name of the same inode in the tree, of a regular file with several
	Xattrs map[string]string
}

// A Tree has the nodes by their path from the root, which is ".".
type Tree map[string]Node

// Read walks dir, without the paths for which skip is true. It needs to be root to see all.
func Read(dir string, skip func(path string) bool) (Tree, error) {
	tree := Tree{}
	first := map[[2]uint64]string{} // of a device and inode number
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if skip != nil && skip(name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		node, err := readNode(path, name, first)
		tree[name] = node
		return err
	})
	return tree, err
}

func readNode(path, name string, first map[[2]uint64]string) (Node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Node{}, fmt.Errorf("lstat %s: %w", path, err)
	}
	node := Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		node.Size = st.Size
		inode := [2]uint64{uint64(st.Dev), st.Ino}
		if st.Nlink > 1 && first[inode] == "" {
			first[inode] = name
		}
		node.Linked = first[inode]
		node.Digest, err = digest(path)
	case unix.S_IFLNK:
		node.Target, err = os.Readlink(path)
	case unix.S_IFCHR, unix.S_IFBLK:
		node.Rdev = uint64(st.Rdev)
	}
	if err != nil {
		return Node{}, err
	}
	node.Xattrs, err = xattrs(path)
	return node, err
}

func digest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func xattrs(path string) (map[string]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return nil, fmt.Errorf("llistxattr %s: %w", path, err)
	}
	var values map[string]string
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("lgetxattr %s %s: %w", path, name, err)
		}
		if values == nil {
			values = map[string]string{}
		}
		values[name] = string(value[:n])
	}
	return values, nil
}

// Diff gives a line for each difference, sorted by path.
func Diff(want, got Tree) []string {
	var lines []string
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		w, wanted := want[path]
		g, have := got[path]
		switch {
		case !have:
			lines = append(lines, fmt.Sprintf("%q is missing", path))
		case !wanted:
			lines = append(lines, fmt.Sprintf("%q should not be there", path))
		default:
			lines = append(lines, diffNode(path, w, g)...)
		}
	}
	return lines
}

func diffNode(path string, want, got Node) []string {
	var lines []string
	differ := func(what string, want, got any) {
		lines = append(lines, fmt.Sprintf("%q: %s: want %v, got %v", path, what, want, got))
	}
	if want.Mode != got.Mode {
		differ("mode", fmt.Sprintf("%#o", want.Mode), fmt.Sprintf("%#o", got.Mode))
	}
	if want.UID != got.UID || want.GID != got.GID {
		differ("owner", [2]uint32{want.UID, want.GID}, [2]uint32{got.UID, got.GID})
	}
	if want.Rdev != got.Rdev {
		differ("device", want.Rdev, got.Rdev)
	}
	if want.Size != got.Size {
		differ("size", want.Size, got.Size)
	}
	if want.Target != got.Target {
		differ("link target", want.Target, got.Target)
	}
	if want.Digest != got.Digest {
		differ("contents", want.Digest, got.Digest)
	}
	if want.Linked != got.Linked {
		differ("hard link to", want.Linked, got.Linked)
	}
	if !maps.Equal(want.Xattrs, got.Xattrs) {
		differ("xattrs", fmt.Sprintf("%q", want.Xattrs), fmt.Sprintf("%q", got.Xattrs))
	}
	return lines
}
