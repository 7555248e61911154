package vm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKill kills the supervisor of a run at ten points, with no warning: at each, all that the run had started and made is gone once its
// janitor is done, and the next run works.
func TestKill(t *testing.T) {
	const points = 10
	env := newHome(t, way{vmm: "qemu", transport: "vhost-user"}).env
	steps := countSteps(t, env)
	if steps < points-2 {
		t.Fatalf("mica run --debug says only %d lines: too few points to kill it at", steps)
	}
	for point := range points {
		// The first point is before mica has said anything, the last one is when the guest's command runs.
		line := point * steps / (points - 2)
		name := fmt.Sprintf("after line %d", line)
		if point == points-1 {
			line, name = -1, "in the guest's command"
		}
		t.Run(name, func(t *testing.T) { killAfter(t, env, line) })
	}
}

// countSteps gives the number of lines that mica says with --debug until the guest's command runs.
func countSteps(t *testing.T, env []string) int {
	t.Helper()
	r := startRun(t, env, runtimeDir(t))
	r.waitForGuest(t)
	steps := strings.Count(r.said(t), "\n")
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // 128+15
	return steps
}

func killAfter(t *testing.T, env []string, line int) {
	runtime := runtimeDir(t)
	r := startRun(t, env, runtime)
	if line < 0 {
		r.waitForGuest(t)
	} else {
		r.waitForLines(t, line)
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := r.cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("mica ended with %v, want a kill", err)
	}
	poll(t, func() []string { return leftovers(t, runtime) })
	next := micaRun(env, runtime, "echo", "works")
	out, err := next.Output()
	if string(out) != "works\n" || err != nil {
		t.Errorf("the next run printed %q and ended with %v", out, err)
	}
}

// A killable is a run with --debug whose command says that it is there and stays.
type killable struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr string // a file
}

func startRun(t *testing.T, env []string, runtime string) *killable {
	t.Helper()
	r := &killable{cmd: micaRun(env, runtime, "sh", "-c", "echo here; sleep 1000"), stderr: filepath.Join(t.TempDir(), "stderr")}
	stderr, err := os.Create(r.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	r.cmd.Stderr = stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdout = bufio.NewReader(stdout)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // when the test fails before it does
	return r
}

func micaRun(env []string, runtime string, command ...string) *exec.Cmd {
	args := []string{"--debug", "run", "--vmm", "qemu", "--transport", "vhost-user"}
	var mica string
	for _, v := range env {
		if key, value, _ := strings.Cut(v, "="); key == "BUSYBOX" {
			args = append(args, "--image", value)
		} else if key == "MICA" {
			mica = value
		}
	}
	cmd := exec.Command(mica, append(append(args, "--"), command...)...)
	cmd.Env = append(append(os.Environ(), env...), "XDG_RUNTIME_DIR="+runtime)
	return cmd
}

func (r *killable) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(r.stderr)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (r *killable) waitForLines(t *testing.T, n int) {
	t.Helper()
	poll(t, func() []string {
		if said := r.said(t); strings.Count(said, "\n") < n {
			return []string{fmt.Sprintf("mica said less than %d lines: %s", n, said)}
		}
		return nil
	})
}

func (r *killable) waitForGuest(t *testing.T) {
	t.Helper()
	if line, err := r.stdout.ReadString('\n'); line != "here\n" {
		t.Fatalf("the guest said %q, %v; mica said:\n%s", line, err, r.said(t))
	}
}

// poll waits until nothing is wrong, for a minute.
func poll(t *testing.T, wrong func() []string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for lines := wrong(); len(lines) > 0; lines = wrong() {
		if time.Now().After(deadline) {
			t.Fatal(strings.Join(lines, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// runtimeDir is a folder that only one run has: its path is how the run's processes are known.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mica-run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// leftovers names what a run with this XDG_RUNTIME_DIR has left: files of its own, mounts, processes.
func leftovers(t *testing.T, runtime string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(runtime, "mica", "*"))
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, runtime) {
			left = append(left, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		environ, _ := os.ReadFile(process + "/environ") // may have ended
		command, _ := os.ReadFile(process + "/cmdline")
		if len(command) > 0 && bytes.Contains(append(environ, command...), []byte(runtime)) {
			left = append(left, fmt.Sprintf("process %s %q", filepath.Base(process), command))
		}
	}
	return left
}
