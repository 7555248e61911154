package fusefs

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestOverrideValues(t *testing.T) {
	device := func(major, minor uint32) uint32 { return uint32(unix.Mkdev(major, minor)) }
	for value, want := range map[string]owner{
		"0:0:0755":                      {mode: 0o755},
		"1000:1001:04711":               {uid: 1000, gid: 1001, mode: 0o4711},
		"0:0:0100644":                   {mode: unix.S_IFREG | 0o644},
		"0:0:0644:file":                 {mode: unix.S_IFREG | 0o644},
		"0:0:0777:symlink":              {mode: unix.S_IFLNK | 0o777},
		"0:0:0600:pipe":                 {mode: unix.S_IFIFO | 0o600},
		"0:0:0600:socket":               {mode: unix.S_IFSOCK | 0o600},
		"4294967294:7:0660:block-8-300": {uid: 1<<32 - 2, gid: 7, mode: unix.S_IFBLK | 0o660, rdev: device(8, 300)},
		"0:0:0666:char-1-3":             {mode: unix.S_IFCHR | 0o666, rdev: device(1, 3)},
	} {
		if got, err := parseOverride(value); err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", value, got, err, want)
		}
	}
	for _, value := range []string{
		"", "0", "0:0", "a:0:0644", "-1:0:0644", "0:0:0999", "0:0:0644:door", "0:0:0644:file-1", "0:0:0600:char-1",
		"0:0:0600:char-9999-1", "0:0:01000000", "4294967296:0:0644", "0:0:0644:file:x",
	} {
		if got, err := parseOverride(value); err == nil {
			t.Errorf("%q is read as %+v", value, got)
		}
	}
}

// FuzzOverride reads values that anybody may have written: what is understood is written back as the same.
func FuzzOverride(f *testing.F) {
	f.Add("0:0:0755")
	f.Add("1:2:0660:block-8-300")
	f.Add("0:0:0777:symlink")
	f.Fuzz(func(t *testing.T, value string) {
		o, err := parseOverride(value)
		if err != nil {
			return
		}
		again, err := parseOverride(o.String())
		if o.mode&unix.S_IFMT == unix.S_IFREG || o.mode&unix.S_IFMT == unix.S_IFDIR {
			again.mode |= o.mode & unix.S_IFMT // the host file says it
		}
		if err != nil || again != o {
			t.Errorf("%q is %+v, written as %q it is %+v (%v)", value, o, o.String(), again, err)
		}
	})
}
