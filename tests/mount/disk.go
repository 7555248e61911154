package mount

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/micavm/mica/tests/testenv"
)

// Disk is an empty ext4 filesystem in memory: tests that copy up and fsync at each step take minutes on a real disk, and learn no more.
func Disk(t testing.TB) string {
	t.Helper()
	image, err := os.CreateTemp("/dev/shm", "mica-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(image.Name()); err != nil {
			t.Error(err)
		}
	})
	if err := image.Truncate(4 << 30); err != nil {
		t.Fatal(err)
	}
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, testenv.Tool(t, "mkfs.ext4"), "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", image.Name())
	dir := testenv.Dir(t)
	testenv.Run(t, testenv.Tool(t, "mount"), "-o", "loop", image.Name(), dir)
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	inside := filepath.Join(dir, "disk")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	return inside
}
