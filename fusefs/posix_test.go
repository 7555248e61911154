package fusefs_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notYet are go-fuse's tests that a local filesystem does not pass, with the reason.
var notYet = map[string]string{
	"FcntlFlockLocksFile": "wants two descriptors of one process to conflict, which fcntl(2) locks do on no local filesystem",
}

func TestPosix(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		t.Run(name, func(t *testing.T) {
			if why := notYet[name]; why != "" {
				t.Skip(why)
			}
			posixtest.All[name](t, newUnion(t, tree{}).dir)
		})
	}
}
