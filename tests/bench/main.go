package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	b := bench{}
	flag.IntVar(&b.rounds, "rounds", 5, "measure each side this often")
	out := flag.String("o", "", "write the report to this file too, and its plots beside it")
	only := flag.String("only", "", "measure only the parts whose names match this regular expression: "+strings.Join(partNames(), ", "))
	flag.Parse()
	if err := b.run(*only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run of the benchmarks.
type bench struct {
	program program
	cache   string   // what setup.sh left
	dir     string   // files of this run
	layers  []string // of the Debian image, as the peers read them, the topmost first
	rounds  int
	result  result
}

// A result is what was measured.
type result struct {
	rows  []row
	notes []string
	plots []plot
}

// parts are measured one after the other.
var parts = []struct {
	name    string
	measure func(*bench) error
}{
	{"read", (*bench).read},
	{"write", (*bench).write},
	{"data", (*bench).data},
	{"programs", (*bench).programs},
	{"unpack", (*bench).unpack},
	{"scale", (*bench).scale},
	{"boot", (*bench).boot},
	{"guest", (*bench).guest},
	{"microsandbox", (*bench).microsandbox},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func (b *bench) run(only, out string) (err error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if b.cache = os.Getenv("MICA_TEST_CACHE"); b.cache == "" {
		return errors.New(`MICA_TEST_CACHE is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`)
	}
	if b.dir, err = os.MkdirTemp("/var/tmp", "mica-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.program = program{path: filepath.Join("bin", "mica"), dir: b.dir, images: filepath.Join(b.cache, "images")}
	for _, image := range []string{"busybox", "debian"} {
		if _, err := timed(b.program.command("pull", b.program.image(image))); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if !wanted.MatchString(p.name) {
			continue
		}
		if err = p.measure(b); err != nil {
			err = fmt.Errorf("measure part %s: %w", p.name, err)
			break // what was measured is shown
		}
	}
	var table bytes.Buffer
	report(&table, b.rounds, b.result)
	if _, failed := os.Stdout.Write(table.Bytes()); err != nil || failed != nil || out == "" {
		return errors.Join(err, failed)
	}
	return errors.Join(writeReport(out, table.Bytes()), writePlots(filepath.Dir(out), b.result.plots))
}

func (b *bench) add(rows ...row) { b.result.rows = append(b.result.rows, rows...) }

func (b *bench) note(format string, args ...any) {
	b.result.notes = append(b.result.notes, fmt.Sprintf(format, args...))
}
