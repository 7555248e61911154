package initramfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCached(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mica")
	want, err := archive([]byte("guest-init"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := cached(dir, want)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		again, err := cached(dir, want)
		if err != nil || again != path {
			t.Fatalf("%s: %s, %v; want %s", what, again, err, path)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the archive is not what was asked for: %v", what, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", what, left)
		}
	}
	check("a new file")

	before, _ := os.Stat(path)
	check("once more")
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("it was written again")
	}

	os.WriteFile(path, want[:100], 0o600)
	check("a short file")
	flipped := bytes.Clone(want)
	flipped[200] ^= 1
	os.WriteFile(path, flipped, 0o600)
	check("a changed file")
	os.Remove(path)
	os.Symlink("/dev/zero", path)
	check("a symbolic link")

	stale := filepath.Join(dir, ".initramfs-1")
	os.WriteFile(stale, nil, 0o600)
	os.Chtimes(stale, time.Time{}, time.Now().Add(-time.Hour))
	os.Remove(path)
	check("after a crash")
}

func TestCachedAtOnce(t *testing.T) {
	dir := t.TempDir()
	want, err := archive(bytes.Repeat([]byte("guest-init"), 1000))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			path, err := cached(dir, want)
			if err != nil || !holds(path, want) {
				t.Errorf("%s, %v", path, err)
			}
		})
	}
	all.Wait()
}

func TestCachedNowhere(t *testing.T) {
	if _, err := cached("/dev/null/mica", nil); err == nil || !strings.HasPrefix(err.Error(), "cache initramfs: ") {
		t.Errorf("error %v", err)
	}
}

func TestEmbedded(t *testing.T) {
	guestInit, err := GuestInit()
	path, cachedErr := Cached(t.TempDir())
	if errors.Is(err, ErrNotEmbedded) { // as after a checkout
		if !errors.Is(cachedErr, ErrNotEmbedded) {
			t.Errorf("Cached: %v", cachedErr)
		}
		return
	}
	if err != nil || !bytes.HasPrefix(guestInit, []byte("\x7fELF")) {
		t.Fatalf("guest-init is no ELF: %v", err)
	}
	if cachedErr != nil {
		t.Fatal(cachedErr)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(got, guestInit) {
		t.Errorf("guest-init is not in the archive: %v", err)
	}
}

// TestBuildIsReproducible builds guest-init in two copies of the source tree.
func TestBuildIsReproducible(t *testing.T) {
	var builds [2][]byte
	for i := range builds {
		tree := filepath.Join(t.TempDir(), "mica")
		for _, dir := range []string{"guest-init", "initramfs"} {
			if err := os.CopyFS(filepath.Join(tree, dir), os.DirFS("../"+dir)); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range []string{"go.mod", "go.sum"} {
			text, err := os.ReadFile("../" + file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, file), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out := filepath.Join(tree, "initramfs/bin", runtime.GOARCH, "guest-init")
		os.Remove(out)
		build := exec.Command("./build.sh")
		build.Dir = filepath.Join(tree, "initramfs")
		build.Env = append(os.Environ(), "GOARCH="+runtime.GOARCH)
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build.sh: %v\n%s", err, text)
		}
		var err error
		if builds[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(builds[0], builds[1]) {
		t.Error("two builds of the same sources differ")
	}
}
