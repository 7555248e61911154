package fusefs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Attributes of the union as attributes of upper files. Marks of overlayfs get another "overlay." so that a union in the
// union works; security.*, trusted.* and ACLs, which an ordinary user may not set, live below reservedPrefix; and what mica
// or others of its kind keep in files can be neither seen nor set.
const (
	reservedPrefix = "user.mica."
	capabilityName = "security.capability"
	maxXattr       = 64 << 10 // as Linux has it (XATTR_SIZE_MAX)
)

var keptPrefixes = []string{"user.containers.", "user.fuseoverlayfs.", "user.mica.", largePrefix}

// hostXattr is where the attribute name is kept, "" for a name that is nobody's.
func (w owners) hostXattr(name string) (string, error) {
	for _, p := range keptPrefixes {
		if strings.HasPrefix(name, p) && (!w.real || p != "user.containers.") {
			return "", nil
		}
	}
	if len(name) > 255 {
		return "", unix.ERANGE
	}
	for _, p := range []string{overlay, "trusted.overlay."} {
		if rest, ok := strings.CutPrefix(name, p); ok && (p == overlay || w.real) {
			return p + "overlay." + rest, nil
		}
	}
	space, _, _ := strings.Cut(name, ".")
	switch space {
	case "user":
		return name, nil
	case "security", "trusted":
	case "system":
		if name != aclAccess && name != aclDefault {
			return "", unix.EOPNOTSUPP
		}
	default:
		return "", unix.EOPNOTSUPP
	}
	if w.real {
		return name, nil
	}
	return reservedPrefix + name, nil
}

// shownXattr is the name that a host attribute has in the union, "" for one that does not show.
func (w owners) shownXattr(host string) string {
	if rest, ok := strings.CutPrefix(host, reservedPrefix); ok {
		if w.real {
			return ""
		}
		return rest
	}
	if rest, ok := strings.CutPrefix(host, largePrefix); ok {
		return w.shownXattr(rest)
	}
	for _, p := range keptPrefixes {
		if strings.HasPrefix(host, p) && (!w.real || p != "user.containers.") {
			return ""
		}
	}
	for _, p := range []string{overlay, "trusted.overlay."} {
		if rest, ok := strings.CutPrefix(host, p); ok {
			if inner, ok := strings.CutPrefix(rest, "overlay."); ok {
				return p + inner
			}
			return ""
		}
	}
	if strings.HasPrefix(host, "user.") || w.real {
		return host
	}
	return ""
}

// shownLower is shownXattr for a layer's attribute: an index has them as the tar did, a plain folder as an upper may.
func (w owners) shownLower(name string) string {
	if strings.HasPrefix(name, "user.") {
		return w.shownXattr(name)
	}
	if strings.HasPrefix(name, "trusted.overlay.") {
		return ""
	}
	return name
}

func (fs *FS) ownersOf() owners {
	if fs.upper != nil {
		return fs.upper.owners
	}
	return owners{real: fs.cfg.RealOwners}
}

// copyXattrs gives the upper file at s the attributes that the inode has below.
func (n *inode) copyXattrs(s spot) error {
	pairs, err := n.lowerXattrs()
	if err != nil {
		return err
	}
	for _, x := range pairs {
		host, err := n.fs.upper.owners.hostXattr(x.name)
		if err != nil || host == "" {
			continue
		}
		err = n.fs.upper.setXattr(s, host, x.value, 0)
		if err != nil && !(isNoXattr(err) && n.fs.upper.cfg.RealOwners) {
			return err
		}
	}
	return nil
}

// lowerXattrs are the attributes that the layers show on the inode: of a folder, those of the part that describes it.
func (n *inode) lowerXattrs() ([]xattrPair, error) {
	n.mu.RLock()
	lowers := n.lowers
	n.mu.RUnlock()
	w := n.fs.ownersOf()
	for i, p := range lowers {
		a, err := p.layer.attr(p)
		if err != nil {
			return nil, err
		}
		if a.implied && i < len(lowers)-1 {
			continue
		}
		if !a.mayHaveXattrs {
			return nil, nil
		}
		all, err := p.layer.xattrs(p)
		if err != nil {
			return nil, err
		}
		var shown []xattrPair
		for _, x := range all {
			if x.name = w.shownLower(x.name); x.name != "" {
				shown = append(shown, x)
			}
		}
		return shown, nil
	}
	return nil, nil
}

func (n *inode) getXattr(name string) ([]byte, error) {
	w := n.fs.ownersOf()
	host, err := w.hostXattr(name)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return nil, unix.ENODATA
	}
	if !n.inUpper() {
		pairs, err := n.lowerXattrs()
		if err != nil {
			return nil, err
		}
		for _, x := range pairs {
			if x.name == name {
				return x.value, nil
			}
		}
		return nil, unix.ENODATA
	}
	if name == capabilityName && n.knownWithoutCapability() {
		return nil, unix.ENODATA // Linux asks before a file's first write, and after each change of its attributes
	}
	s, err := n.spot()
	if err != nil {
		return nil, err
	}
	defer s.release()
	return n.fs.upper.getXattr(s, host)
}

func (n *inode) listXattr() ([]string, error) {
	var names []string
	if !n.inUpper() {
		pairs, err := n.lowerXattrs()
		for _, x := range pairs {
			names = append(names, x.name)
		}
		return names, err
	}
	s, err := n.spot()
	if err != nil {
		return nil, err
	}
	defer s.release()
	list, err := s.listxattr()
	if err != nil {
		if isNoXattr(err) {
			return nil, nil
		}
		return nil, err
	}
	for host := range xattrNames(list) {
		if name := n.fs.upper.owners.shownXattr(host); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// knownWithoutCapability reports whether the upper inode has no file capability for sure: in a volume others may have set one.
func (n *inode) knownWithoutCapability() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.caps == no && !n.fs.shared()
}

// dropCapability removes the file capability, as every write, truncation and chown does (CVE-2021-20263).
func (n *inode) dropCapability(s spot) error {
	n.mu.RLock()
	none := n.caps == no
	n.mu.RUnlock()
	if none {
		return nil
	}
	host, err := n.fs.upper.owners.hostXattr(capabilityName)
	if err != nil {
		return err
	}
	if err := s.removexattr(host); err != nil && !isNoXattr(err) {
		return err
	}
	if n.fs.shared() {
		return nil
	}
	n.mu.Lock()
	n.caps = no
	n.mu.Unlock()
	return nil
}

// GetXAttr reads an attribute.
func (c *Connection) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if c.view.NoXattrs {
		return 0, fuse.ENOSYS
	}
	var size int
	st := c.with(in.NodeId, func(n *inode) error {
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		value, err := n.getXattr(name)
		if err != nil {
			if err == unix.EPERM || err == unix.EOPNOTSUPP && strings.HasPrefix(name, "user.") {
				return unix.ENODATA
			}
			return err
		}
		size = len(value)
		if size > len(dest) {
			return unix.ERANGE
		}
		copy(dest, value)
		return nil
	})
	return uint32(size), st
}

// ListXAttr lists the attributes' names, each with a NUL.
func (c *Connection) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if c.view.NoXattrs {
		return 0, fuse.ENOSYS
	}
	var size int
	st := c.with(in.NodeId, func(n *inode) error {
		c.fs.tree.RLock()
		defer c.fs.tree.RUnlock()
		names, err := n.listXattr()
		if err != nil {
			return err
		}
		var list []byte
		for _, name := range names {
			if in.Uid == 0 || !strings.HasPrefix(name, "trusted.") {
				list = append(append(list, name...), 0)
			}
		}
		size = len(list)
		if size > len(dest) {
			return unix.ERANGE
		}
		copy(dest, list)
		return nil
	})
	return uint32(size), st
}

// SetXAttr sets an attribute.
func (c *Connection) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if c.view.NoXattrs {
		return fuse.ENOSYS
	}
	return c.change(in.NodeId, func(n *inode) error {
		host, err := c.fs.upper.owners.hostXattr(name)
		if err != nil {
			return err
		}
		if host == "" {
			return unix.EPERM
		}
		if len(value) > maxXattr {
			return unix.E2BIG
		}
		if in.Flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
			return unix.EINVAL
		}
		if err := n.toUpper(metadataOnly); err != nil {
			return err
		}
		return n.atSpot(func(s spot) error {
			n.mu.Lock()
			if name == capabilityName {
				n.caps = unknown
			}
			n.mu.Unlock()
			if name == aclAccess || name == aclDefault {
				return n.setACL(s, name, value, in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0)
			}
			return c.fs.upper.setXattr(s, host, value, int(in.Flags))
		})
	})
}

// RemoveXAttr removes an attribute.
func (c *Connection) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if c.view.NoXattrs {
		return fuse.ENOSYS
	}
	return c.change(in.NodeId, func(n *inode) error {
		c.fs.tree.RLock()
		_, err := n.getXattr(name)
		c.fs.tree.RUnlock()
		if err == unix.ENODATA && (name == aclAccess || name == aclDefault) {
			return nil // there need not be an ACL to remove
		}
		if err != nil {
			return err
		}
		host, err := c.fs.upper.owners.hostXattr(name)
		if err != nil {
			return err
		}
		if err := n.toUpper(metadataOnly); err != nil {
			return err
		}
		return n.atSpot(func(s spot) error {
			n.forgetACL()
			return c.fs.upper.removeXattr(s, host)
		})
	})
}
