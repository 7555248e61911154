package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryNote says how much memory of its own the mica that serves dir has, after all that was done in it.
func memoryNote(dir string) (string, error) {
	pid, err := serverOf(dir)
	if err != nil {
		return "", err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return fmt.Sprintf("Memory of the server's own (RssAnon) after all reading of the Debian image: %.1f MiB; at most 40.", float64(kib)/1024), err
		}
	}
	return "", fmt.Errorf("/proc/%d/status: no RssAnon", pid)
}

// serverOf is the process that serves the mount: its source names it.
func serverOf(dir string) (int, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, err
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == dir {
			return strconv.Atoi(f[0][strings.LastIndexByte(f[0], ':')+1:])
		}
	}
	return 0, fmt.Errorf("%s: not mounted", dir)
}
