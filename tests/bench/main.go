package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "measure each side this often")
	out := flag.String("o", "", "write the table to this file too")
	boots := flag.Bool("boot", true, "measure runs of VMs")
	flag.Parse()
	if err := bench(*rounds, *out, *boots); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(rounds int, out string, boots bool) (err error) {
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
	rows, notes, err := benchUnions(p, filepath.Join(cache, "debian-tars"), rounds)
	if err != nil {
		return err
	}
	if boots {
		booted, bootErr := benchBoots(p, rounds)
		rows, err = append(rows, booted...), bootErr // what was measured is shown whatever failed later
	}
	var table bytes.Buffer
	report(&table, rows, notes)
	if _, failed := os.Stdout.Write(table.Bytes()); err != nil || failed != nil || out == "" {
		return errors.Join(err, failed)
	}
	return writeReport(out, table.Bytes())
}

// bootRounds are the fewest for boots: the same boot under emulation takes half as long again at times, and the median of five follows chance.
const bootRounds = 13

// benchBoots measures a run's and a mount's beginning.
func benchBoots(p program, rounds int) ([]row, error) {
	rounds = max(rounds, bootRounds)
	bare, err := newBareBoot(p.dir)
	if err != nil {
		return nil, err
	}
	const peer = "the same kernel and devices, a C init"
	run, err := measure("run of /bin/true, QEMU", rounds, map[string]func() (time.Duration, error){"mica": p.runTrue, peer: bare.boot}, "mica", peer)
	if err != nil {
		return nil, err
	}
	run.targets = map[string]float64{peer: 1.25}
	mount, err := measure("mount to first answer, Debian image", rounds, map[string]func() (time.Duration, error){"mica": p.mount}, "mica")
	mount.targets = map[string]float64{"ms": 30}
	return []row{run, mount}, err
}

// benchUnions measures work in mounted unions.
func benchUnions(p program, tars string, rounds int) (rows []row, notes []string, err error) {
	layers, err := unpackLayers(p.dir, tars)
	if err != nil {
		return nil, nil, err
	}
	m := mounter{program: p, dir: filepath.Join(p.dir, "unions"), lower: strings.Join(layers, ":")}
	images, err := m.images()
	if err != nil {
		return nil, nil, err
	}
	rows, err = measureWorks(readingWorks(), images, rounds)
	if err == nil {
		var note string
		if note, err = memoryNote(images[0].dir); err == nil {
			notes = append(notes, note)
		}
	}
	if err = errors.Join(err, closeAll(images)); err != nil {
		return nil, nil, err
	}
	archive := filepath.Join(p.dir, "small.tar")
	if err := writeArchive(archive); err != nil {
		return nil, nil, err
	}
	writable, err := m.writable()
	if err != nil {
		return nil, nil, err
	}
	written, err := measureWorks(writingWorks(archive), writable, rounds)
	return append(rows, written...), notes, errors.Join(err, closeAll(writable))
}

// measureWorks has the unions take turns: in each round, each does all works in their order.
func measureWorks(works []work, unions []union, rounds int) ([]row, error) {
	rows := make([]row, len(works))
	var dirs []string
	for _, u := range unions {
		dirs = append(dirs, u.dir)
	}
	for round := range rounds + 1 {
		for _, u := range unions {
			for i, w := range works {
				took, err := w.measure(u, dirs)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", w.name, u.name, err)
				}
				if round == 0 {
					rows[i].work, rows[i].targets = w.name, w.targets
					rows[i].sides = append(rows[i].sides, u.name)
					continue
				}
				rows[i].add(u.name, took)
			}
		}
	}
	return rows, nil
}

func (w work) measure(u union, dirs []string) (time.Duration, error) {
	if w.cold {
		if err := forget(dirs); err != nil {
			return 0, err
		}
	}
	return w.do(u.dir)
}

// measure has the sides take turns. The first round is not counted.
func measure(name string, rounds int, sides map[string]func() (time.Duration, error), order ...string) (row, error) {
	r := row{work: name, sides: order}
	for round := range rounds + 1 {
		for _, side := range order {
			took, err := sides[side]()
			if err != nil {
				return r, fmt.Errorf("%s, %s: %w", name, side, err)
			}
			if round > 0 {
				r.add(side, took)
			}
		}
	}
	return r, nil
}

func (r *row) add(side string, took time.Duration) {
	if r.times == nil {
		r.times = make(map[string][]time.Duration)
	}
	r.times[side] = append(r.times[side], took)
}
