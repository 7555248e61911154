package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// anonymousMemory is how much memory of its own the mica that serves dir has, in MiB.
func anonymousMemory(dir string) (float64, error) {
	pid, err := serverOf(dir)
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no RssAnon", pid)
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
