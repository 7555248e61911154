package initramfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// archive is what every guest boots with. What guest-init expects of it is in guest-init's own documentation.
func archive(guestInit []byte) ([]byte, error) {
	var b bytes.Buffer
	err := Write(&b, []File{
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		{Path: "init", Mode: 0o755, Data: guestInit},
		{Path: "proc", Mode: fs.ModeDir | 0o555},
		{Path: "root", Mode: fs.ModeDir | 0o700},
		{Path: "sys", Mode: fs.ModeDir | 0o555},
	})
	return b.Bytes(), err
}

// Cached returns the path of the archive with guest-init in it, in the folder dir, which is made if need be. The file's name is its
// SHA-256; what is there is believed only after it was compared. The error is ErrNotEmbedded for a program without guest-init.
func Cached(dir string) (string, error) {
	guestInit, err := GuestInit()
	if err != nil {
		return "", err
	}
	want, err := archive(guestInit)
	if err != nil {
		return "", err
	}
	return cached(dir, want)
}

func cached(dir string, want []byte) (string, error) {
	path := filepath.Join(dir, fmt.Sprintf("initramfs-%x.cpio", sha256.Sum256(want)))
	if holds(path, want) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cache initramfs: %w", err)
	}
	sweep(dir)
	if err := publish(path, want); err != nil {
		return "", fmt.Errorf("cache initramfs: %w", err)
	}
	return path, nil
}

// holds says whether a file is what it should be: a crash, a full disk or a stranger may have had it.
func holds(path string, want []byte) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(want)) {
		return false
	}
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, want)
}

const temporary = ".initramfs-*"

// sweep removes what processes that were killed have left: no live one takes a minute.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, temporary)) // the pattern is well-formed
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > time.Minute {
			os.Remove(path)
		}
	}
}

// publish makes a file appear whole or not at all. Two processes that do so at once leave the same bytes.
func publish(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), temporary)
	if err != nil {
		return err
	}
	defer func() {
		f.Close() // a second time, when all went well
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
