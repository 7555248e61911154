package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A work is something done in a union, timed.
type work struct {
	name    string
	cold    bool                                    // the kernel forgets names, inodes and pages first
	do      func(dir string) (time.Duration, error) // in the union mounted at dir
	targets map[string]float64                      // the ratio to each peer that is aimed at
}

// find, tar and reads need no more than a mount.
func readingWorks() []work {
	return []work{
		{"find -printf, cold", true, find, map[string]float64{kernelOverlayfs: 1.25, fuseOverlayfs: 0.25}},
		{"find -printf, warm", false, find, map[string]float64{kernelOverlayfs: 1.3, fuseOverlayfs: 0.4}},
		{"tar to a pipe, cold", true, tarToPipe, map[string]float64{kernelOverlayfs: 2.5, fuseOverlayfs: 0.7}},
		{"tar to a pipe, warm", false, tarToPipe, map[string]float64{kernelOverlayfs: 1, fuseOverlayfs: 0.4}},
		{"open+read+close of 4 KiB files, warm", false, readSmallFiles, map[string]float64{kernelOverlayfs: 0.8}},
	}
}

// writingWorks unpack an archive of small files, and remove what was unpacked.
func writingWorks(archive string) []work {
	return []work{
		{fmt.Sprintf("untar of %d small files", smallFiles), false, func(dir string) (time.Duration, error) {
			return timed(exec.Command("tar", "-C", dir, "-xf", archive))
		}, map[string]float64{kernelOverlayfs: 10, fuseOverlayfs: 0.45}},
		{"rm -rf of them", false, func(dir string) (time.Duration, error) {
			return timed(exec.Command("rm", "-rf", filepath.Join(dir, "small")))
		}, map[string]float64{fuseOverlayfs: 0.5}},
	}
}

func find(dir string) (time.Duration, error) {
	return timed(exec.Command("find", dir, "-xdev", "-printf", ""))
}

func tarToPipe(dir string) (time.Duration, error) {
	return timed(exec.Command("sh", "-c", `tar -C "$1" --one-file-system -cf - . | cat >/dev/null`, "sh", dir))
}

// readSmallFiles reads every file of at most 4 KiB below usr/share, named beforehand.
func readSmallFiles(dir string) (time.Duration, error) {
	var files []string
	err := filepath.WalkDir(filepath.Join(dir, "usr/share"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() <= 4096 {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	read := func() error {
		buf := make([]byte, 8192)
		for _, path := range files {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			if _, err := f.Read(buf); err != nil && err != io.EOF {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(); err != nil { // warm, whatever came before
		return 0, err
	}
	start := time.Now()
	err = read()
	return time.Since(start), err
}

const smallFiles = 2000

// writeArchive makes an archive of small files in 20 folders.
func writeArchive(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	contents := strings.Repeat("small", 200)
	for i := range smallFiles {
		name := fmt.Sprintf("small/%d/%d", i%20, i)
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(contents)), ModTime: time.Unix(1e9, 0)})
		if err == nil {
			_, err = io.WriteString(w, contents)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), file.Close())
}

// forget has the kernel drop names and inodes, and the pages that go with them. FUSE servers hear of it: their answer to a look
// at the root comes after that.
func forget(dirs []string) error {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0o200); err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := os.Lstat(filepath.Join(dir, "not there")); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

func run(name string, args ...string) error {
	_, err := timed(exec.Command(name, args...))
	return err
}
