package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const portsDir = "/sys/class/virtio-ports"

// openPort opens the virtio-console port of that name. The driver announces ports one by one, after init has started.
//
// The port is opened non-blocking, as os.OpenFile does: a blocking write to one spins in the kernel until the host has read.
func openPort(name string, wait time.Duration) (*os.File, error) {
	const pause = time.Millisecond
	for left := wait; left > 0; left -= pause {
		if device := findPort(portsDir, name); device != "" {
			if f, err := os.OpenFile(filepath.Join("/dev", device), os.O_RDWR, 0); err == nil || !os.IsNotExist(err) {
				return f, err
			}
		}
		time.Sleep(pause)
	}
	return nil, fmt.Errorf("open control port: no virtio-console port named %s after %v", name, wait)
}

// findPort returns the device of the port of that name, or "". A port has no name file before the host has named it.
func findPort(dir, name string) string {
	ports, _ := os.ReadDir(dir) // not there before the first port is
	for _, port := range ports {
		text, err := os.ReadFile(filepath.Join(dir, port.Name(), "name"))
		if err == nil && strings.TrimSuffix(string(text), "\n") == name {
			return port.Name()
		}
	}
	return ""
}
