package fusefs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

func TestLimit(t *testing.T) {
	u := prepareUnion(t, tree{"low": string(make([]byte, 3<<20))})
	u.config.Upper.Limit = 4 << 20
	u.remount()
	var st unix.Statfs_t
	must(t, unix.Statfs(u.dir, &st))
	if total := int64(st.Blocks) * st.Bsize; total != 4<<20 {
		t.Errorf("statfs says %d bytes", total)
	}
	block := bytes.Repeat([]byte{1}, 1<<20)
	fill := func() int {
		f, err := os.Create(u.path("f"))
		must(t, err)
		defer f.Close()
		n := 0
		for range 8 {
			if _, err := f.Write(block); err != nil {
				if !isErrno(err, unix.ENOSPC) {
					t.Errorf("write: %v", err)
				}
				break
			}
			n++
		}
		return n
	}
	// What is removed can be filled again, any number of times.
	for range 4 {
		if n := fill(); n < 3 || n > 4 {
			t.Errorf("%d MiB fit into 4", n)
		}
		if err := os.WriteFile(u.path("low"), block, 0o644); err == nil {
			u.wantContents("low", string(block))
			t.Error("copied up beyond the limit")
		}
		must(t, os.Remove(u.path("f")))
	}
	u.remount()
	if n := fill(); n < 3 || n > 4 {
		t.Errorf("%d MiB fit into 4 after a remount", n)
	}
}

// TestLimitCountsWhatIsDeep has more folders in folders than there may be descriptors, with a file in each.
func TestLimitCountsWhatIsDeep(t *testing.T) {
	const depth, block = 300, 4096
	limitDescriptors(t, 200)
	u := prepareUnion(t)
	u.config.Upper.Limit = 8 << 20
	dir, err := unix.Open(u.upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		fd, err := unix.Openat(dir, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		must(t, err)
		_, err = unix.Write(fd, make([]byte, block))
		must(t, err)
		must(t, unix.Close(fd))
		must(t, unix.Linkat(dir, "file", dir, "same", 0))
		must(t, unix.Mkdirat(dir, "beside", 0o755))
		must(t, unix.Mkdirat(dir, "d", 0o755))
		next, err := unix.Openat(dir, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(dir))
		dir = next
	}
	must(t, unix.Close(dir))
	c := newClient(t, u)
	h := header(1)
	var st fuse.StatfsOut
	if got := c.c.StatFs(nil, &h, &st); !got.Ok() {
		t.Fatal(got)
	}
	if used := (st.Blocks - st.Bfree) * uint64(st.Bsize); used != depth*block {
		t.Errorf("%d bytes are used, want %d", used, depth*block)
	}
	must(t, fusefs.RemoveTree(filepath.Join(u.upper, "d")))
}
