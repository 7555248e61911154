package fusefs_test

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// posixACL is the value of an ACL's xattr: tag, permissions, id.
func posixACL(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

const nobodyID = ^uint32(0)

func TestACLs(t *testing.T) {
	u := newUnion(t, tree{"d/": "", "f": "x"})
	mode := func(name string) uint32 {
		var st unix.Stat_t
		must(t, unix.Lstat(u.path(name), &st))
		return st.Mode & 0o7777
	}
	access := posixACL([3]uint32{1, 6, nobodyID}, [3]uint32{2, 7, 1000}, [3]uint32{4, 4, nobodyID}, [3]uint32{16, 7, nobodyID}, [3]uint32{32, 0, nobodyID})
	must(t, unix.Setxattr(u.path("f"), "system.posix_acl_access", access, 0))
	if m := mode("f"); m != 0o670 {
		t.Errorf("mode %#o with the ACL, want 0670", m)
	}
	must(t, unix.Chmod(u.path("f"), 0o640))
	buf := make([]byte, 200)
	n, err := unix.Getxattr(u.path("f"), "system.posix_acl_access", buf)
	must(t, err)
	want := posixACL([3]uint32{1, 6, nobodyID}, [3]uint32{2, 7, 1000}, [3]uint32{4, 4, nobodyID}, [3]uint32{16, 4, nobodyID}, [3]uint32{32, 0, nobodyID})
	if string(buf[:n]) != string(want) {
		t.Errorf("ACL %x after chmod, want %x", buf[:n], want)
	}
	must(t, unix.Setxattr(u.path("d"), "system.posix_acl_default", access, 0))
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	must(t, os.WriteFile(u.path("d/new"), nil, 0o666))
	must(t, os.Mkdir(u.path("d/sub"), 0o777))
	if m := mode("d/new"); m != 0o660 {
		t.Errorf("mode %#o of a new file, want 0660: the default ACL, not the umask", m)
	}
	if _, err := unix.Getxattr(u.path("d/sub"), "system.posix_acl_default", buf); err != nil {
		t.Errorf("default ACL of a new folder: %v", err)
	}
	must(t, os.WriteFile(u.path("plain"), nil, 0o666))
	if m := mode("plain"); m != 0o600 {
		t.Errorf("mode %#o of a new file without a default ACL, want 0600", m)
	}
}
