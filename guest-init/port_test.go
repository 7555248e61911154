package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindPort(t *testing.T) {
	dir := t.TempDir()
	for device, name := range map[string]string{"vport0p0": "", "vport0p1": "krun-stdin\n", "vport1p1": "mica.control\n"} {
		folder := filepath.Join(dir, device)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "" { // not named yet
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, "name"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := findPort(dir, "mica.control"); got != "vport1p1" {
		t.Errorf("the control port is %q", got)
	}
	for _, where := range []string{dir, filepath.Join(dir, "absent")} {
		if got := findPort(where, "mica.other"); got != "" {
			t.Errorf("a port that is not there is %q", got)
		}
	}
}
