package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestHome(t *testing.T) {
	project := t.TempDir()
	p := &Plan{Name: "web", Project: project, Upper: filepath.Join(project, ".mica", "web"), Image: Image{Reference: "oci:x", Digest: "sha256:1"}}
	h, err := OpenHome(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.Upper.Dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenHome(p)
	if want := "sandbox web is in use: end the run or the writable mount that has " + p.Upper; !errors.Is(err, ErrRunning) || errorText(err) != want {
		t.Errorf("open twice: %v, want %s", err, want)
	}
	h.Close()

	if h, err = OpenHome(p); err != nil {
		t.Fatalf("the same image again: %v", err)
	}
	h.Close()

	p.Image.Digest = "sha256:2"
	_, err = OpenHome(p)
	want := "image of sandbox web has changed: its upper grew on oci:x (sha256:1), the image is oci:x (sha256:2) now: " +
		"go back to that image, or lose what the sandbox wrote with --reset"
	if !errors.Is(err, ErrImage) || errorText(err) != want {
		t.Errorf("another image:\n%v, want\n%s", err, want)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what the sandbox wrote: %v", err)
	}

	p.Reset = true
	if h, err = OpenHome(p); err != nil {
		t.Fatalf("reset: %v", err)
	}
	h.Close()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the sandbox wrote, after a reset: %v", err)
	}
}

func TestThrowAwayIsNotInMemory(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/dev/shm/mica-test")
	defer os.RemoveAll("/dev/shm/mica-test")
	if !inMemory("/dev/shm") {
		t.Fatal("/dev/shm is no tmpfs: this test needs one")
	}
	dir, err := throwAwayFolder(&Plan{Name: "run-1"})
	if err != nil {
		t.Fatal(err)
	}
	if inMemory(filepath.Dir(filepath.Dir(dir))) {
		t.Errorf("%s is in memory", dir)
	}
}

func TestThrowAwayLeavesNothing(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	p := &Plan{Name: "run-1"}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(cache, "run", "run-0-00000000", "upper")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "run", runName(p.Name, ""))
	h, folder, err := openThrowAway(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.Upper.Dir); err != nil {
		t.Error(err)
	}
	if err := folder.remove(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(filepath.Join(cache, "run")); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}
