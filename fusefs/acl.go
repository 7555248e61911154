package fusefs

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// POSIX ACLs, in the form of their extended attributes (linux/posix_acl_xattr.h): version 2, then entries of a tag, the
// permissions and an id, little-endian. The kernel checks them; what they do to modes and new files is the server's part.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	aclVersion   = 2
	aclEntrySize = 8

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

type acl []aclEntry

func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || (len(b)-4)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, unix.EINVAL
	}
	var a acl
	seen := uint16(0)
	for b = b[4:]; len(b) > 0; b = b[aclEntrySize:] {
		e := aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.perm > 7 {
			return nil, unix.EINVAL
		}
		switch e.tag {
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			if seen&e.tag != 0 {
				return nil, unix.EINVAL
			}
		case aclUser, aclGroup:
		default:
			return nil, unix.EINVAL
		}
		seen |= e.tag
		a = append(a, e)
	}
	const needed = aclUserObj | aclGroupObj | aclOther
	if seen&needed != needed || seen&(aclUser|aclGroup) != 0 && seen&aclMask == 0 {
		return nil, unix.EINVAL
	}
	return a, nil
}

func (a acl) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

func (a acl) find(tag uint16) *aclEntry {
	for i := range a {
		if a[i].tag == tag {
			return &a[i]
		}
	}
	return nil
}

// group is the entry that the group bits of a mode stand for.
func (a acl) group() *aclEntry {
	if m := a.find(aclMask); m != nil {
		return m
	}
	return a.find(aclGroupObj)
}

// mode is what the permission bits are with the ACL; plain says that they say all of it.
func (a acl) mode() (perm uint32, plain bool) {
	perm = uint32(a.find(aclUserObj).perm)<<6 | uint32(a.group().perm)<<3 | uint32(a.find(aclOther).perm)
	return perm, len(a) == 3
}

// chmod gives the ACL the permission bits of mode.
func (a acl) chmod(mode uint32) {
	a.find(aclUserObj).perm = uint16(mode >> 6 & 7)
	a.group().perm = uint16(mode >> 3 & 7)
	a.find(aclOther).perm = uint16(mode & 7)
}

// restrict takes away what mode does not allow: a new file has no more than its maker asked for.
func (a acl) restrict(mode uint32) {
	a.find(aclUserObj).perm &= uint16(mode >> 6 & 7)
	a.group().perm &= uint16(mode >> 3 & 7)
	a.find(aclOther).perm &= uint16(mode & 7)
}

// inheritACL gives a new file what its folder's default ACL says, or takes the umask from its mode where there is none.
func (d *inode) inheritACL(f *newFile) error {
	if f.own.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	value, err := d.defaultACL()
	if err != nil {
		return err
	}
	a, err := parseACL(value)
	if err != nil { // none, or not one
		f.own.mode &^= f.umask & 0o777
		return nil
	}
	if f.own.mode&unix.S_IFMT == unix.S_IFDIR {
		f.xattrs = append(f.xattrs, xattrPair{aclDefault, value})
	}
	a = slices.Clone(a)
	a.restrict(f.own.mode)
	perm, plain := a.mode()
	f.own.mode = f.own.mode&^0o777 | perm
	if !plain {
		f.xattrs = append(f.xattrs, xattrPair{aclAccess, a.bytes()})
	}
	return nil
}

// maxKnownACL is how long a default ACL may be to be remembered: about a hundred entries.
const maxKnownACL = 1 << 10

// defaultACL is the folder's, remembered where nobody else can change it.
func (d *inode) defaultACL() ([]byte, error) {
	d.mu.RLock()
	value, known := d.dir.defaultACL, d.dir.aclKnown
	d.mu.RUnlock()
	if known {
		return value, nil
	}
	value, err := d.getXattr(aclDefault)
	if err != nil && !isNoXattr(err) {
		return nil, err
	}
	if !d.fs.shared() && len(value) <= maxKnownACL {
		d.mu.Lock()
		d.dir.defaultACL, d.dir.aclKnown = value, true
		d.mu.Unlock()
	}
	return value, nil
}

// setACL stores an ACL. An access ACL changes the mode, and is not stored where the mode says all of it.
func (n *inode) setACL(s spot, name string, value []byte, killSetGID bool) error {
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	u := n.fs.upper
	host, err := u.owners.hostXattr(name)
	if err != nil {
		return err
	}
	if name == aclDefault {
		n.forgetACL()
		return u.setXattr(s, host, value, 0)
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	perm, plain := a.mode()
	if plain {
		err = u.removeXattr(s, host)
	} else {
		err = u.setXattr(s, host, value, 0)
	}
	if err != nil && !isNoXattr(err) {
		return err
	}
	var st unix.Stat_t
	o, err := n.ownerOf(s, &st)
	if err != nil {
		return err
	}
	o.mode = o.mode&^0o777 | perm
	if killSetGID {
		o.mode &^= unix.S_ISGID
	}
	return n.setOwner(s, &st, o)
}

func (n *inode) forgetACL() {
	if n.dir == nil {
		return
	}
	n.mu.Lock()
	n.dir.aclKnown = false
	n.mu.Unlock()
}

// chmodACL brings the access ACL, if there is one, in line with a new mode.
func (n *inode) chmodACL(s spot, mode uint32) error {
	if n.typ == unix.S_IFLNK {
		return nil
	}
	u := n.fs.upper
	host, err := u.owners.hostXattr(aclAccess)
	if err != nil || u.owners.real { // the host's own chmod does it
		return err
	}
	value, err := u.getXattr(s, host)
	if err != nil {
		if isNoXattr(err) {
			return nil
		}
		return err
	}
	a, err := parseACL(value)
	if err != nil {
		return nil
	}
	a.chmod(mode)
	return u.setXattr(s, host, a.bytes(), 0)
}
