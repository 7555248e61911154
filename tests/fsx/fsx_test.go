package fsx

import (
	"bytes"
	"os"
	"path/filepath"
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

// TestMica checks files of mica, most of which begin in a layer and so come to the upper under the first operations.
func TestMica(t *testing.T) {
	testenv.Root(t)
	t.Run("cached", func(t *testing.T) { checkAll(t, false) })
	t.Run("passthrough", func(t *testing.T) { checkAll(t, true) })
}

func checkAll(t *testing.T, passthrough bool) {
	t.Helper()
	files, count := 8, 400
	if testenv.Soak() {
		files, count = 100, 2000
	}
	start := time.Now()
	dir := mount.Disk(t)
	lower := filepath.Join(dir, "lower")
	writeFiles(t, lower, files)
	layers := stack(t, dir, lower)
	layers.Passthrough = passthrough
	m, err := mount.NewMica(layers, makeDir(t, dir, "merged"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		check(t, m, i, count)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if got, err := os.ReadFile(filepath.Join(lower, name(i))); err != nil || !bytes.Equal(got, contents(i)) {
			t.Errorf("%s has changed in the layer (%v)", name(i), err)
		}
	}
	t.Logf("%d operations of %d seeds in %s", files*count, files, time.Since(start).Round(time.Second))
}

// check does count operations on one file, and reads it again after a remount.
func check(t *testing.T, m mount.Mount, i, count int) {
	t.Helper()
	path := filepath.Join(m.Dir(), name(i))
	c, err := newChecker(path, contents(i), uint64(i))
	if err != nil {
		t.Fatal(err)
	}
	for step := range count {
		if err := c.step(); err != nil {
			t.Fatalf("seed %d, operation %d: %v", i, step, err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at the end", "after a remount"} {
		got, err := os.ReadFile(path)
		if err == nil {
			err = differ(when, 0, got, c.model)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", i, err)
		}
		if err := m.Remount(); err != nil {
			t.Fatal(err)
		}
	}
}

func name(i int) string { return string([]byte{'a' + byte(i/26), 'a' + byte(i%26)}) }

// contents are a layer's file; every fourth one is empty.
func contents(i int) []byte {
	if i%4 == 3 {
		return nil
	}
	return bytes.Repeat([]byte(name(i)), 1+i*1999%60_000)
}

func writeFiles(t *testing.T, dir string, files int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, name(i)), contents(i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func stack(t *testing.T, dir, lower string) mount.Stack {
	t.Helper()
	return mount.Stack{Lower: []string{lower}, Upper: makeDir(t, dir, "upper"), Work: makeDir(t, dir, "work")}
}

func makeDir(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
