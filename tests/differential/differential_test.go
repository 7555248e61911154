package differential

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/micavm/mica/tests/mount"
	"github.com/micavm/mica/tests/testenv"
)

// TestMain is also mica's server.
func TestMain(m *testing.M) {
	mount.Main()
	os.Exit(m.Run())
}

var (
	firstSeed   = flag.Uint64("seed", 0, "the first seed of TestMica")
	passthrough = flag.Bool("passthrough", false, "have TestMica mount mica with passthrough")
)

// TestMica compares mica with kernel overlayfs: some seeds, or in a soak a million operations.
func TestMica(t *testing.T) {
	testenv.Root(t)
	seeds, count := 10, 500
	if testenv.Soak() {
		seeds, count = 200, 5000
	}
	start := time.Now()
	c := comparison{dir: mount.Disk(t), want: overlay(reference), got: mica}
	if *passthrough {
		c.got, c.through = micaThrough, true
	}
	for seed := range uint64(seeds) {
		compare(t, c, *firstSeed+seed, count)
		if testenv.Soak() {
			t.Logf("seed %d: no difference in %d operations, %s", *firstSeed+seed, count, time.Since(start).Round(time.Second))
		}
	}
	t.Logf("%d operations of %d seeds in %s", seeds*count, seeds, time.Since(start).Round(time.Second))
}

// TestMicaWithPassthrough is TestMica, shorter, of a mount with passthrough.
func TestMicaWithPassthrough(t *testing.T) {
	testenv.Root(t)
	c := comparison{dir: mount.Disk(t), want: overlay(reference), got: micaThrough, through: true}
	for seed := range uint64(5) {
		compare(t, c, seed, 500)
	}
}

// TestOverlayItself has nothing to find: what overlayfs does is the same each time.
func TestOverlayItself(t *testing.T) {
	testenv.Root(t)
	c := comparison{dir: mount.Disk(t), want: overlay(reference), got: overlay(reference)}
	for seed := range 4 {
		compare(t, c, uint64(seed), 500)
	}
}

// TestFindsAndShrinks looks for a difference that is there: without redirects a folder of a lower layer cannot be renamed.
func TestFindsAndShrinks(t *testing.T) {
	testenv.Root(t)
	c := comparison{dir: mount.Disk(t), want: overlay(reference), got: overlay("redirect_dir=off,index=on")}
	for seed := range uint64(20) {
		found, err := c.random(seed, 500)
		if err != nil {
			t.Fatal(err)
		}
		if found == nil {
			continue
		}
		least := c.shrink(*found)
		if len(least.Ops) > 3 {
			t.Errorf("seed %d: shrunk from %d operations to %d, want 3 at most:\n%s", seed, len(found.Ops), len(least.Ops), least)
		}
		return
	}
	t.Error("no seed renames a folder of a lower layer")
}

func compare(t *testing.T, c comparison, seed uint64, count int) {
	t.Helper()
	found, err := c.random(seed, count)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if found != nil {
		t.Fatalf("seed %d, after %d operations: %s\n\nshrunk: %s", seed, len(found.Ops), found.what, c.shrink(*found))
	}
}
