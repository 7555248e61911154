//go:build guest

package posix

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notPOSIX are tests that no local filesystem passes, with the reason.
var notPOSIX = map[string]string{
	"FcntlFlockLocksFile": "wants two descriptors of one process to conflict, which fcntl(2) locks do on no local filesystem",
}

func TestPosix(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if notPOSIX[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp(os.Getenv("MICA_POSIX_DIR"), "posix")
			if err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, dir)
		})
	}
}
