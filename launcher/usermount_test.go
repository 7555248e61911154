package launcher

import (
	"strings"
	"testing"
)

func TestFindSourceReadsMountinfo(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:41 / /mnt/a\040b rw,nosuid - fuse.mica mica:web:12 rw,user_id=0
41 22 0:42 / /mnt/other rw - fuse.sshfs host: rw
42 22 0:43 / /mnt/covered rw - fuse.mica mica:db:13 rw
43 42 0:44 / /mnt/covered rw - tmpfs tmpfs rw
broken
`
	for path, want := range map[string]string{
		"/mnt/a b":     "mica:web:12",
		"/mnt/other":   "",
		"/mnt/covered": "",
		"/mnt":         "",
	} {
		if got := findSource(strings.NewReader(mounts), path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
