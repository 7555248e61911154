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

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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
		{"open+read+close of 4 KiB files, warm", false, readSmallFiles(1), map[string]float64{kernelOverlayfs: 0.8}},
		{"the same, 2 threads", false, readSmallFiles(2), map[string]float64{kernelOverlayfs: 0.8}},
		{"exec of a dynamic binary, warm", false, execDynamic, map[string]float64{kernelOverlayfs: 1.1}},
	}
}

// copyUp changes files of the image.
func copyUp(targets map[string]float64) work {
	return work{fmt.Sprintf("copy-up of %d files", copiedFiles), false, newCopyUp(), targets}
}

// untar unpacks an archive of small files, in each round to another folder.
func untar(archive string) work {
	return work{fmt.Sprintf("untar of %d small files", smallFiles), false, func(dir string) (time.Duration, error) {
		into, err := os.MkdirTemp(dir, smallPrefix)
		if err != nil {
			return 0, err
		}
		return timed(exec.Command("tar", "-C", into, "-xf", archive))
	}, map[string]float64{kernelOverlayfs: 10, fuseOverlayfs: 0.45}}
}

// smallPrefix begins the names of the folders with small files.
const smallPrefix = "small-"

// removal removes what one round of untar has made.
func removal() work {
	return work{"rm -rf of them", false, func(dir string) (time.Duration, error) {
		made, err := filepath.Glob(filepath.Join(dir, smallPrefix+"*"))
		if err != nil {
			return 0, err
		}
		if len(made) == 0 {
			return 0, fmt.Errorf("%s: nothing to remove", dir)
		}
		return timed(exec.Command("rm", "-rf", made[0]))
	}, map[string]float64{fuseOverlayfs: 0.5}}
}

func find(dir string) (time.Duration, error) {
	return timed(exec.Command("find", dir, "-xdev", "-printf", ""))
}

func tarToPipe(dir string) (time.Duration, error) {
	return timed(exec.Command("sh", "-c", `tar -C "$1" --one-file-system -cf - . | cat >/dev/null`, "sh", dir))
}

// readSmallFiles has threads read every file of at most 4 KiB below usr/share, each all of them, warm whatever came before.
func readSmallFiles(threads int) func(dir string) (time.Duration, error) {
	return func(dir string) (time.Duration, error) {
		files, err := smallFilesOf(filepath.Join(dir, "usr/share"))
		if err != nil {
			return 0, err
		}
		if err := readAll(files); err != nil {
			return 0, err
		}
		start := time.Now()
		var readers errgroup.Group
		for range threads {
			readers.Go(func() error { return readAll(files) })
		}
		err = readers.Wait()
		return time.Since(start), err
	}
}

func smallFilesOf(dir string) ([]string, error) {
	var files []string
	return files, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() <= 4096 {
			files = append(files, path)
		}
		return err
	})
}

// readAll makes the system calls alone: an os.File would add calls of the poller's to each.
func readAll(files []string) error {
	buf := make([]byte, 8192)
	for _, path := range files {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		if _, err := unix.Read(fd, buf); err != nil {
			return &os.PathError{Op: "read", Path: path, Err: err}
		}
		if err := unix.Close(fd); err != nil {
			return &os.PathError{Op: "close", Path: path, Err: err}
		}
	}
	return nil
}

// execDynamic starts a program of the union a hundred times, with the loader and the libraries of the union.
func execDynamic(dir string) (time.Duration, error) {
	libraries := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	script := `for i in $(seq 100); do "$1/ld-linux-x86-64.so.2" --library-path "$1" "$2/usr/bin/ls" "$2/usr/bin/ls" || exit; done`
	return timed(exec.Command("sh", "-c", script, "sh", libraries, dir))
}

const copiedFiles = 1000

// newCopyUp gives a work that appends to files of the image, to others in each round.
func newCopyUp() func(dir string) (time.Duration, error) {
	left := make(map[string][]string) // by folder: an appended file may be no small one any more, so they are listed once
	return func(dir string) (time.Duration, error) {
		if left[dir] == nil {
			for _, folder := range []string{"etc", "usr", "var"} { // srv has names that fuse-overlayfs ends at
				files, err := smallFilesOf(filepath.Join(dir, folder))
				if err != nil {
					return 0, err
				}
				left[dir] = append(left[dir], files...)
			}
		}
		files := left[dir]
		if len(files) < copiedFiles {
			return 0, fmt.Errorf("%s: %d small files are left, too few for so many rounds", dir, len(files))
		}
		left[dir] = files[copiedFiles:]
		start := time.Now()
		for _, path := range files[:copiedFiles] {
			if err := appendTo(path); err != nil {
				return 0, err
			}
		}
		return time.Since(start), nil
	}
}

func appendTo(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	_, err = unix.Write(fd, []byte("more\n"))
	return errors.Join(err, unix.Close(fd))
}

const smallFiles = 20000

// writeArchive makes an archive of small files in 200 folders.
func writeArchive(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	contents := strings.Repeat("small", 200)
	for i := range smallFiles {
		name := fmt.Sprintf("small/%d/%d", i%200, i)
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
