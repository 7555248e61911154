package main

import (
	"os"
	"path/filepath"
)

// dataDir is $XDG_DATA_HOME/mica: images, layers and kernels.
func dataDir() string { return xdg("XDG_DATA_HOME", ".local/share") }

// cacheDir is $XDG_CACHE_HOME/mica: what can be made again.
func cacheDir() string { return xdg("XDG_CACHE_HOME", ".cache") }

// xdg is mica's folder in one of the XDG base directories; a relative value counts as none, as their specification says.
func xdg(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mica")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	return filepath.Join(home, fallback, "mica")
}
