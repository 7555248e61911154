package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A program is bin/mica with a store of its own.
type program struct {
	path   string
	dir    string
	images string
}

func (p program) image(name string) string { return "oci:" + filepath.Join(p.images, name) + ":latest" }

func (p program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+p.dir, "XDG_CACHE_HOME="+p.dir, "XDG_RUNTIME_DIR="+p.dir)
	return cmd
}

func (p program) runTrue() (time.Duration, error) {
	return timed(p.command("run", "--vmm", "qemu", "--transport", "vhost-user", "--image", p.image("busybox"), "--", "/bin/true"))
}

// mount gives the time until mica says that the image is mounted and a file in it has answered.
func (p program) mount(image, file string) (took time.Duration, err error) {
	folder := filepath.Join(p.dir, "mnt")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	cmd := p.command("mount", "--image", image, folder)
	said, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if failed := cmd.Wait(); err == nil {
			err = failed
		}
	}()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		return 0, fmt.Errorf("mica mount said %q: %w", line, err)
	}
	if _, err := os.Stat(filepath.Join(folder, file)); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func timed(cmd *exec.Cmd) (time.Duration, error) {
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return time.Since(start), nil
}
