package fusefs_test

import (
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// viewed is a union of one file, whose owner in override_stat is 5:6, a client that is shown it by v, and one that is shown it as it is.
func viewed(t *testing.T, v fusefs.View, volatile bool) (_ client, plain client) {
	t.Helper()
	u := prepareUnion(t, tree{"f": "x", "d/f": "x"})
	must(t, unix.Setxattr(u.lowers[0]+"/f", "user.containers.override_stat", []byte("5:6:0644"), 0))
	u.config.Upper.Volatile = volatile
	fsys, err := fusefs.New(u.config)
	must(t, err)
	t.Cleanup(func() { must(t, fsys.Close()) })
	return client{t, fsys.Connect(fusefs.ConnectOptions{View: v})}, client{t, fsys.Connect(fusefs.ConnectOptions{ReadOnly: true})}
}

func TestViewOfOwners(t *testing.T) {
	seven := uint32(7)
	ranges := fusefs.Owners{Ranges: []fusefs.IDRange{{Kept: 5, Shown: 1005, Count: 10}}}
	for name, test := range map[string]struct {
		view  fusefs.View
		shown fuse.Owner // of 5:6
		made  fuse.Owner // by 1006:1007
	}{
		"none":         {fusefs.View{}, fuse.Owner{Uid: 5, Gid: 6}, fuse.Owner{Uid: 1006, Gid: 1007}},
		"ranges":       {fusefs.View{UIDs: ranges, GIDs: ranges}, fuse.Owner{Uid: 1005, Gid: 1006}, fuse.Owner{Uid: 6, Gid: 7}},
		"not in range": {fusefs.View{UIDs: fusefs.Owners{Ranges: []fusefs.IDRange{{Count: 1}}}}, fuse.Owner{Uid: 65534, Gid: 6}, fuse.Owner{Uid: 65534, Gid: 1007}},
		"squashed":     {fusefs.View{UIDs: fusefs.Owners{Squash: &seven}}, fuse.Owner{Uid: 7, Gid: 6}, fuse.Owner{Uid: 1006, Gid: 1007}},
	} {
		t.Run(name, func(t *testing.T) {
			c, plain := viewed(t, test.view, false)
			h := header(1)
			var out fuse.EntryOut
			c.c.Lookup(nil, &h, "f", &out)
			if out.Owner != test.shown {
				t.Errorf("look-up: %v, want %v", out.Owner, test.shown)
			}
			var stx fuse.StatxOut
			c.c.Statx(nil, &fuse.StatxIn{InHeader: header(out.NodeId)}, &stx)
			if got := (fuse.Owner{Uid: stx.Uid, Gid: stx.Gid}); got != test.shown {
				t.Errorf("statx: %v, want %v", got, test.shown)
			}
			h.Uid, h.Gid = 1006, 1007
			if st := c.c.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "made", &out); !st.Ok() {
				t.Fatal(st)
			}
			set := &fuse.SetAttrIn{}
			set.InHeader, set.Valid, set.Owner = header(c.lookup(1, "f")), fuse.FATTR_UID|fuse.FATTR_GID, h.Caller.Owner
			if st := c.c.SetAttr(nil, set, &fuse.AttrOut{}); !st.Ok() {
				t.Fatal(st)
			}
			for _, name := range []string{"made", "f"} {
				h := header(1)
				plain.c.Lookup(nil, &h, name, &out)
				if out.Owner != test.made {
					t.Errorf("%s is kept as %v, want %v", name, out.Owner, test.made)
				}
			}
		})
	}
}

func TestViewWithoutAttributes(t *testing.T) {
	c, _ := viewed(t, fusefs.View{NoXattrs: true}, false)
	h := header(c.lookup(1, "f"))
	if _, st := c.c.ListXAttr(nil, &h, nil); st != fuse.ENOSYS {
		t.Errorf("list: %v", st)
	}
	if st := c.c.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, "user.x", []byte("y")); st != fuse.ENOSYS {
		t.Errorf("set: %v", st)
	}
}

func TestTimeout(t *testing.T) {
	short, day := 500*time.Millisecond, 24*time.Hour
	for _, test := range []struct {
		timeout *time.Duration
		want    time.Duration
	}{{nil, day}, {new(time.Duration), 0}, {&short, short}} {
		c, _ := viewed(t, fusefs.View{Timeout: test.timeout}, false)
		h := header(c.lookup(1, "d")) // in the root there may be synthetic files
		for _, name := range []string{"f", "absent"} {
			var out fuse.EntryOut
			c.c.Lookup(nil, &h, name, &out)
			if got := out.EntryTimeout(); got != test.want {
				t.Errorf("%s is believed for %v, want %v", name, got, test.want)
			}
		}
	}
}

func TestVolatile(t *testing.T) {
	c, _ := viewed(t, fusefs.View{}, true)
	h := header(c.lookup(1, "f"))
	if st := c.c.Fsync(nil, &fuse.FsyncIn{InHeader: h}); st != fuse.ENOSYS {
		t.Errorf("fsync: %v", st)
	}
	if st := c.c.FsyncDir(nil, &fuse.FsyncIn{InHeader: header(1)}); st != fuse.ENOSYS {
		t.Errorf("fsyncdir: %v", st)
	}
}
