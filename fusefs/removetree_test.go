package fusefs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// TestRemoveTree removes folders that no path reaches, more than there may be descriptors, and some that nobody may look into.
func TestRemoveTree(t *testing.T) {
	limitDescriptors(t, 200)
	name := strings.Repeat("d", 100)
	top := filepath.Join(t.TempDir(), "top")
	must(t, os.Mkdir(top, 0o755))
	dir, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for i := range 300 {
		must(t, unix.Mkdirat(dir, name, 0o755))
		must(t, unix.Symlinkat("/", dir, "link"))
		must(t, unix.Mkdirat(dir, "1", 0)) // a name that others may get while they are removed
		next, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		if i%100 == 1 {
			must(t, unix.Fchmod(dir, 0))
		}
		must(t, unix.Close(dir))
		dir = next
	}
	must(t, unix.Close(dir))
	must(t, fusefs.RemoveTree(top))
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("afterwards: %v", err)
	}
	must(t, fusefs.RemoveTree(top))
}
