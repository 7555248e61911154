package fusefs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestManyInOneFolder has goroutines make, change, link, rename, list and remove the same few names: no call may fail but
// for what another one did, and the union must show the same after a remount.
func TestManyInOneFolder(t *testing.T) {
	low, records := tree{}, []record{}
	for i := range 8 {
		for _, name := range []string{fmt.Sprintf("d/n%d", i), fmt.Sprintf("d/s%d/f", i)} {
			low[name] = "lower"
			records = append(records, file(name, "lower"))
		}
	}
	t.Run("folder as a layer", func(t *testing.T) { manyInOneFolder(t, newUnion(t, low)) })
	t.Run("indexed layer", func(t *testing.T) { manyInOneFolder(t, indexedUnion(t, records...)) })
}

func manyInOneFolder(t *testing.T, u *union) {
	t.Helper()
	expected := []error{fs.ErrNotExist, fs.ErrExist, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.EBUSY}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			pick := func() string {
				kind := "n"
				if r.IntN(3) == 0 {
					kind = "s"
				}
				return u.path(fmt.Sprintf("d/%s%d", kind, r.IntN(8)))
			}
			for range 400 {
				err := someChange(r.IntN(8), pick(), pick())
				ok := err == nil
				for _, e := range expected {
					ok = ok || errors.Is(err, e)
				}
				if !ok {
					t.Errorf("worker %d: %v", worker, err)
				}
			}
		})
	}
	wg.Wait()
	before := describe(t, u.dir)
	u.remount()
	compare(t, "after remount", describe(t, u.dir), before)
	left, err := os.ReadDir(u.work + "/mica")
	if err != nil || len(left) > 0 {
		t.Errorf("work folder has %v (%v)", left, err)
	}
}

func someChange(what int, a, b string) error {
	switch what {
	case 0:
		return os.WriteFile(a, []byte("written"), 0o644)
	case 1:
		return unix.Rename(a, b)
	case 2:
		if err := os.Link(a, b); !errors.Is(err, unix.EPERM) { // of a folder
			return err
		}
		return nil
	case 3:
		return os.RemoveAll(a)
	case 4:
		return os.Mkdir(a, 0o755)
	case 5:
		return os.Chmod(a, 0o640)
	case 6:
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	}
	_, err := os.ReadDir(a[:strings.LastIndexByte(a, '/')])
	return err
}
