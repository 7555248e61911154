package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 9, "measure each side this often")
	flag.Parse()
	if err := bench(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A comparison is one row: what mica does, and what it is measured against.
type comparison struct {
	name    string
	mica    func() (time.Duration, error)
	against string
	other   func() (time.Duration, error) // nil: only mica's own time is of interest
}

func bench(rounds int) error {
	cache := os.Getenv("MICA_TEST_CACHE")
	if cache == "" {
		return fmt.Errorf(`MICA_TEST_CACHE is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`)
	}
	dir, err := os.MkdirTemp("/var/tmp", "mica-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := program{path: filepath.Join("bin", "mica"), dir: dir, images: filepath.Join(cache, "images")}
	for _, image := range []string{"busybox", "debian"} {
		if _, err := timed(p.command("run", "--image", p.image(image), "--dry-run", "--", "true")); err != nil {
			return err
		}
	}
	bare, err := newBareBoot(dir)
	if err != nil {
		return err
	}
	fmt.Printf("%-38s %10s %10s %8s  against\n", "", "mica", "other", "ratio")
	for _, c := range []comparison{
		{"run of /bin/true, QEMU", p.runTrue, "the same kernel and devices, a C init", bare.boot},
		{"mount to first answer, Debian image", p.mount, "", nil},
	} {
		if err := c.print(rounds); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// print measures both sides in turn, so that a machine that gets slower gets slower for both. The first round is not counted.
func (c comparison) print(rounds int) error {
	var ours, theirs []time.Duration
	for round := range rounds + 1 {
		took, err := c.mica()
		if err != nil {
			return err
		}
		var other time.Duration
		if c.other != nil {
			if other, err = c.other(); err != nil {
				return err
			}
		}
		if round > 0 {
			ours, theirs = append(ours, took), append(theirs, other)
		}
	}
	m, o := median(ours), median(theirs)
	if c.other == nil {
		fmt.Printf("%-38s %8.0fms\n", c.name, milliseconds(m))
		return nil
	}
	fmt.Printf("%-38s %8.0fms %8.0fms %8.2f  %s\n", c.name, milliseconds(m), milliseconds(o), float64(m)/float64(o), c.against)
	return nil
}

func median(times []time.Duration) time.Duration {
	times = slices.Sorted(slices.Values(times))
	return times[len(times)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
