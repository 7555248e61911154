package differential

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/mount"
	"github.com/micavm/mica/tests/testenv"
)

// regressions are differences that there were once, as shrinking has left them.
var regressions = map[string]Case{
	"root keeps setgid when it punches a hole": {Layers: []Layer{{}}, Ops: []Op{
		{Kind: Open, Path: "a", Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o2777},
		{Kind: Fallocate, Flags: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Off: 5000, Len: 1},
	}},
	"the root keeps its mode over a remount": {Layers: []Layer{{}}, Ops: []Op{
		{Kind: Chmod, Path: ".", Mode: 0o777},
	}},
	"a removed folder stays open": {Layers: []Layer{{}}, Ops: []Op{
		{Kind: Mkdir, Path: "a", Mode: 0o755},
		{Kind: Open, Path: "a"},
		{Kind: Rmdir, Path: "a"},
		{Kind: Fstat},
	}},
	"a removed folder of a layer stays open": {Layers: []Layer{{{Path: "a", Mode: 0o40755}}}, Ops: []Op{
		{Kind: Open, Path: "a"},
		{Kind: Rmdir, Path: "a"},
		{Kind: Fstat},
	}},
	"an ACL that is not there can be removed": {Layers: []Layer{{}}, Ops: []Op{
		{Kind: Mkdir, Path: "a", Mode: 0o755},
		{Kind: RemoveXattr, Path: "a", Name: "system.posix_acl_access"},
	}},
	"a replaced folder stays open": {Layers: []Layer{{}}, Ops: []Op{
		{Kind: Mkdir, Path: "a", Mode: 0o755},
		{Kind: Mkdir, Path: "b", Mode: 0o700},
		{Kind: Open, Path: "a"},
		{Kind: Rename, Path: "b", To: "a"},
		{Kind: Fstat},
	}},
	"the mode of a removed file of a layer changes": {Layers: []Layer{{{Path: "a", Mode: 0o100755, Size: 100}}}, Ops: []Op{
		{Kind: Open, Path: "a"},
		{Kind: Unlink, Path: "a"},
		{Kind: Fchmod, Mode: 0o1777},
	}},
	"the owner of a replaced file of a layer changes": {Layers: []Layer{{{Path: "a", Mode: 0o100755, Size: 100}, {Path: "b", Mode: 0o100755, Size: 100}}}, Ops: []Op{
		{Kind: Open, Path: "a"},
		{Kind: Rename, Path: "b", To: "a"},
		{Kind: Fchown, UID: 1},
	}},
	"the owner of a file of a removed folder of a layer changes": {Layers: []Layer{{{Path: "d", Mode: 0o40755}, {Path: "d/a", Mode: 0o100755, Size: 100}}}, Ops: []Op{
		{Kind: Open, Path: "d/a"},
		{Kind: Unlink, Path: "d/a"},
		{Kind: Rmdir, Path: "d"},
		{Kind: Fchown, UID: 1},
	}},
	"the owner of a removed folder of a layer does not change": {Layers: []Layer{{{Path: "a", Mode: 0o40755}}}, Ops: []Op{
		{Kind: Open, Path: "a"},
		{Kind: Rmdir, Path: "a"},
		{Kind: Fchown, UID: 1},
	}},
	"the mode of a removed folder of a removed folder does not change": {Layers: []Layer{{{Path: "a", Mode: 0o40755}, {Path: "a/b", Mode: 0o40755}}}, Ops: []Op{
		{Kind: Open, Path: "a/b"},
		{Kind: Rmdir, Path: "a/b"},
		{Kind: Rmdir, Path: "a"},
		{Kind: Fchmod, Mode: 0o1777},
	}},
}

func TestRegressions(t *testing.T) {
	testenv.Root(t)
	c := comparison{dir: mount.Disk(t), want: overlay(reference), got: mica}
	for name, k := range regressions {
		t.Run(name, func(t *testing.T) {
			steps, what, err := c.replay(k, 1)
			if err != nil {
				t.Fatal(err)
			}
			if what != "" {
				t.Errorf("after %d operations: %s", steps, what)
			}
		})
	}
}
