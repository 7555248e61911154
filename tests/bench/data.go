package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// gibibyte is the size of the file that fio reads and writes, in bytes.
const gibibyte = 1 << 30

// data measures reading and writing of one large file: reading of a file of a layer in a mount of an image, writing in mica overlay.
func (b *bench) data() error {
	layer := filepath.Join(b.dir, "large")
	if err := os.Mkdir(layer, 0o755); err != nil {
		return err
	}
	if err := writeLarge(filepath.Join(layer, "file")); err != nil {
		return err
	}
	empty := filepath.Join(b.dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		return err
	}
	m := mounter{program: b.program, dir: filepath.Join(b.dir, "data"), image: layer, lower: empty + ":" + layer}
	images, err := m.images(kernelOverlayfs)
	if err != nil {
		return err
	}
	read := []work{
		{"fio, sequential read of 1 GiB, cached", false, fio("read", "1M"), map[string]float64{kernelOverlayfs: 1.1}},
		{"fio, random read of 1 GiB by 4 KiB, cached", false, fio("randread", "4k"), map[string]float64{kernelOverlayfs: 1.1}},
	}
	rows, err := measureWorks(read, images, b.rounds)
	b.add(rows...)
	if err = errors.Join(err, closeAll(images)); err != nil {
		return err
	}
	written := []work{
		{"fio, sequential write of 1 GiB", false, fio("write", "1M"), nil},
		{"fio, random write of 64 MiB by 4 KiB", false, fio("randwrite", "4k", "--io_size=64M"), nil},
	}
	if err := b.dataIn(m, written); err != nil {
		return err
	}
	m.dir, m.own = filepath.Join(b.dir, "data-through"), ",passthrough"
	target := map[string]float64{kernelOverlayfs: 1.1}
	return b.dataIn(m, []work{
		{"fio, sequential write of 1 GiB, passthrough", false, fio("write", "1M"), target},
		{"fio, random write of 64 MiB by 4 KiB, passthrough", false, fio("randwrite", "4k", "--io_size=64M"), target},
		{"fio, sequential read of what was written, passthrough", false, fio("read", "1M"), target},
		{"fio, random read of it by 4 KiB, passthrough", false, fio("randread", "4k"), target},
		{"open+read+close of 4 KiB files that were written, passthrough", false, readWritten, nil},
	})
}

// dataIn measures works in mica overlay and kernel overlayfs.
func (b *bench) dataIn(m mounter, works []work) error {
	writable, err := m.writable(kernelOverlayfs)
	if err != nil {
		return err
	}
	rows, err := measureWorks(works, writable, b.rounds)
	b.add(rows...)
	return errors.Join(err, closeAll(writable))
}

// readWritten reads small files of the upper, which the first time it makes.
func readWritten(dir string) (time.Duration, error) {
	dir = filepath.Join(dir, "small")
	err := os.Mkdir(dir, 0o755)
	for i := 0; err == nil && i < 2000; i++ {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 4096), 0o644)
	}
	if err != nil && !os.IsExist(err) {
		return 0, err
	}
	files, err := smallFilesOf(dir)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = readAll(files)
	return time.Since(start), err
}

func writeLarge(path string) error {
	random, err := os.Open("/dev/urandom")
	if err != nil {
		return err
	}
	defer random.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, random, gibibyte)
	return errors.Join(err, file.Close())
}

// fio has fio work on the large file, and gives the time that it measured itself.
func fio(pattern, block string, more ...string) func(dir string) (time.Duration, error) {
	return func(dir string) (time.Duration, error) {
		args := append([]string{
			"--name=large", "--filename=" + filepath.Join(dir, "file"), "--rw=" + pattern, "--bs=" + block, "--size=1G",
			"--ioengine=psync", "--invalidate=0", "--fallocate=none", "--output-format=json",
		}, more...)
		if pattern == "read" || pattern == "randread" {
			args = append(args, "--readonly")
		}
		out, err := exec.Command("fio", args...).Output()
		if err != nil {
			return 0, fmt.Errorf("fio %q: %w", args, err)
		}
		type side struct{ Runtime int } // in milliseconds
		var found struct {
			Jobs []struct{ Read, Write side }
		}
		if err := json.Unmarshal(out, &found); err != nil {
			return 0, fmt.Errorf("read the output of fio: %w", err)
		}
		job := found.Jobs[0]
		return time.Duration(job.Read.Runtime+job.Write.Runtime) * time.Millisecond, nil
	}
}
