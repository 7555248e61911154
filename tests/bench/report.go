package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A row is what one work took, on every side of it.
type row struct {
	work  string
	sides []string // mica first
	times map[string][]time.Duration
	// targets are the ratios aimed at, by peer.
	targets map[string]float64
}

func (r row) ratio(peer string) float64 {
	return float64(median(r.times[r.sides[0]])) / float64(median(r.times[peer]))
}

// report writes what was found as docs/benchmarks.md has them.
func report(w io.Writer, rounds int, found result) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Fprintf(w, `# Benchmarks

Written by %s: every line is the median of %d rounds (of boots, at least %d) in which all sides take turns on the same disk, so that a machine
that gets slower gets slower for all; one round more goes before and is not counted. The seconds are this machine's; the ratios are what can be compared.
Cold is after %s: FUSE loses its pages with its inodes, and that is part of its cost. Mica shows the Debian image out of its
store, the peers show its layers unpacked as root; writing is measured in %s over the same unpacked layers, on a new ext4 filesystem in a file.

In a guest (at most %d rounds), both shares are the same machine's: the image below an upper on the same disk, mica's as %s serves it, virtiofsd with
cache=always; pages are forgotten too where it says cold, and time is taken outside, as a guest's own clock is emulated. The emulated AMD-V host is one boot, in which
both programs run with one processor and 512 MiB out of a warm store.

Machine: Linux %s, %d processors, load %s when it ended.

| work | mica | against | peer | ratio | at most | |
|---|---|---|---|---|---|---|
`, "`make bench`", rounds, bootRounds, "`echo 2 > /proc/sys/vm/drop_caches`", "`mica overlay`", guestRounds, "`mica run`",
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), load())
	for _, r := range found.rows {
		for _, peer := range r.sides[1:] {
			target, verdict := "", ""
			if t, ok := r.targets[peer]; ok {
				target, verdict = fmt.Sprintf("%.2f", t), "met"
				if r.ratio(peer) > t {
					verdict = "missed"
				}
			}
			fmt.Fprintf(w, "| %s | %.1f ms | %s | %.1f ms | %.2f | %s | %s |\n", r.work, milliseconds(median(r.times[r.sides[0]])),
				peer, milliseconds(median(r.times[peer])), r.ratio(peer), target, verdict)
		}
		if len(r.sides) == 1 {
			target := ""
			for _, name := range slices.Sorted(maps.Keys(r.targets)) {
				target = fmt.Sprintf("%.0f %s", r.targets[name], name)
			}
			fmt.Fprintf(w, "| %s | %.1f ms | | | | %s | |\n", r.work, milliseconds(median(r.times[r.sides[0]])), target)
		}
	}
	for _, n := range found.notes {
		fmt.Fprintf(w, "\n%s\n", n)
	}
	for _, p := range found.plots {
		fmt.Fprintf(w, "\n![%s](%s)\n", p.title, p.file)
	}
}

// explanation begins the part of the file that people write.
const explanation = "\n## Why"

// writeReport replaces the file's table, and keeps its explanation.
func writeReport(path string, table []byte) error {
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if i := bytes.Index(old, []byte(explanation)); i >= 0 {
		table = append(table, old[i:]...)
	}
	return os.WriteFile(path, table, 0o644)
}

func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

func median(times []time.Duration) time.Duration {
	times = slices.Sorted(slices.Values(times))
	return times[len(times)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
