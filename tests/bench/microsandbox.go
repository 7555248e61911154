package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/micavm/mica/tests/amdvhost"
)

// microsandboxScript runs in the emulated host.
//
//go:embed microsandbox.sh
var microsandboxScript string

const (
	// hostAttempts is how many emulated hosts there may be: now and then one stops for good, or a guest in it.
	hostAttempts = 3
	hostLimit    = 10 * time.Minute
	runLimit     = 2 * time.Minute
	// hostedImage is what msb calls the busybox image.
	hostedImage = "busybox:bench"
)

// microsandbox measures a run in the emulated AMD-V host, where libkrun works, against microsandbox's: the same image out of a warm store, as
// much memory, as many processors.
func (b *bench) microsandbox() error {
	const peer = "microsandbox"
	r := row{work: "run of /bin/echo, emulated AMD-V host", sides: []string{"mica", peer}, targets: map[string]float64{peer: 0.35}}
	command, err := b.hostedRuns()
	if err != nil {
		return err
	}
	for attempt := 0; len(r.times[peer]) < b.rounds; attempt++ {
		if attempt == hostAttempts {
			return err
		}
		command.Args = []string{"sh", "-euc", microsandboxScript, "sh", strconv.Itoa(b.rounds - len(r.times[peer]))}
		var said string
		said, err = runHosted(command)
		for line := range strings.Lines(said) {
			var mica, msb time.Duration
			if _, err := fmt.Sscanln(line, &mica, &msb); err != nil {
				return fmt.Errorf("%s: %q: %w", r.work, line, err)
			}
			r.add("mica", mica)
			r.add(peer, msb)
		}
	}
	b.add(r)
	return nil
}

// hostedRuns makes what the script needs: an image in the store of msb, and an environment.
func (b *bench) hostedRuns() (c amdvhost.Command, err error) {
	mica, err := filepath.Abs(b.program.path)
	if err != nil {
		return c, err
	}
	home := filepath.Join(b.dir, "m") // short: msb has its sockets deep below it
	msb := filepath.Join(b.cache, "microsandbox", "msb")
	if err := os.Mkdir(home, 0o755); err != nil {
		return c, err
	}
	archive := filepath.Join(home, "busybox.tar")
	if err := run("skopeo", "copy", "--quiet", b.program.image("busybox"), "docker-archive:"+archive); err != nil {
		return c, err
	}
	load := exec.Command(msb, "load", "--quiet", "--input", archive, "--tag", hostedImage)
	load.Env = append(os.Environ(), "MSB_HOME="+home)
	if _, err := timed(load); err != nil {
		return c, err
	}
	return amdvhost.Command{Dir: home, Env: append(os.Environ(),
		"LIMIT="+strconv.Itoa(int(runLimit.Seconds())),
		"MICA="+mica, "IMAGE="+b.program.image("busybox"), "XDG_DATA_HOME="+b.dir, "XDG_CACHE_HOME="+b.dir, "XDG_RUNTIME_DIR=/run",
		"MSB="+msb, "MSB_IMAGE="+hostedImage, "MSB_HOME="+home, "MSB_PATH="+msb,
		"MSB_LIBKRUNFW_PATH="+filepath.Join(filepath.Dir(msb), "libkrunfw.so.5"),
	)}, nil
}

// runHosted runs a command in an emulated host of its own, and gives its standard output, to the last whole line, though it fails.
func runHosted(c amdvhost.Command) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hostLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	statuses, err := amdvhost.Run(ctx, c)
	if err == nil && statuses[0] != 0 {
		err = fmt.Errorf("%s in the emulated host: status %d\n%s", c.Args[0], statuses[0], stderr.Bytes())
	}
	whole := stdout.String()
	return whole[:strings.LastIndexByte(whole, '\n')+1], err
}
