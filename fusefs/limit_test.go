package fusefs_test

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
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
