package fusefs_test

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func TestHardLinksStayOneFileWhenAFolderOfTheirsIsRenamed(t *testing.T) {
	u := prepareUnion(t, tree{"a/x": "contents", "b/": ""})
	must(t, os.Link(u.lowers[0]+"/a/x", u.lowers[0]+"/b/y"))
	c := newClient(t, u)
	if st := c.c.Rename(nil, &fuse.RenameIn{InHeader: header(1), Newdir: 1}, "a", "c"); !st.Ok() {
		t.Fatal(st)
	}
	y := c.lookup(c.lookup(1, "b"), "y")
	if st := c.c.Open(nil, &fuse.OpenIn{InHeader: header(y), Flags: unix.O_RDWR}, &fuse.OpenOut{}); !st.Ok() {
		t.Fatal(st)
	}
	if x := c.lookup(c.lookup(1, "c"), "x"); x != y {
		t.Errorf("c/x is node %d, b/y is node %d", x, y)
	}
}
