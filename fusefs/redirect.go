package fusefs

import (
	"golang.org/x/sys/unix"
)

// A renamed folder that has lower parts keeps them by a redirect: the path at which its parts are in the layers. Kernel
// overlayfs's own (redirect_dir) excludes userxattr, so the attribute is mica's own.

// readRedirect finds the lower parts of an upper folder that was renamed. What is not a folder there any more is ignored.
func (n *inode) readRedirect(s spot) error {
	n.dir.moved = true
	value, err := s.getxattr(redirectXattr)
	if err != nil {
		return err
	}
	parts, err := n.fs.lowerParts(string(value))
	if err != nil {
		return err
	}
	if len(parts) > 0 && parts[0].mode&unix.S_IFMT == unix.S_IFDIR {
		n.lowers = parts
	}
	return nil
}

// lowerParts walks path through the merged layers, without the upper and the synthetic layer.
func (fs *FS) lowerParts(path string) ([]lowerNode, error) {
	parts := fs.lowerRoots()
	for name := range pathParts(path) {
		d := &inode{fs: fs, typ: unix.S_IFDIR, dir: &folder{moved: true}, lowers: parts}
		var err error
		if parts, err = d.peekLower(name); err != nil || len(parts) == 0 {
			return nil, err
		}
	}
	return parts, nil
}

// setRedirect marks the folder at s, which has lower parts, before it is renamed.
func (n *inode) setRedirect(s spot) error {
	if _, err := s.getxattr(redirectXattr); err == nil {
		return nil
	}
	path, err := n.lowers[0].layer.where(n.lowers[0])
	if err != nil {
		return err
	}
	return s.setxattr(redirectXattr, []byte("/"+path), 0)
}
