package vm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A point is a moment of a run: the first at which reached is true.
type point struct {
	name    string
	reached func(t *testing.T, r *killable) bool
}

// points are ten moments of a run, in their order.
var points = []point{
	{"at once", func(*testing.T, *killable) bool { return true }},
	{"run folder", hasFile("mica/*")},
	{"janitor", hasChild("__janitor")},
	{"control socket", hasFile("mica/*/control.sock")},
	{"share socket", hasFile("mica/*/s0")},
	{"monitor's folder", hasFile("mica/*/vmm")},
	{"monitor", hasChild("qemu-system")},
	{"state", hasFile("mica/*/state.json")},
	{"command", func(t *testing.T, r *killable) bool { r.readLine(t, "here"); return true }},
	{"end of the command", func(t *testing.T, r *killable) bool {
		r.readLine(t, "here")
		r.stdin.Close()
		r.readLine(t, "bye")
		return true
	}},
}

// TestKill kills the supervisor of a run at each point, with no warning: all that the run had started and made is gone once its janitor is
// done, and the next run works.
func TestKill(t *testing.T) {
	env := newHome(t, way{vmm: "qemu", transport: "vhost-user"}).env
	for _, p := range points {
		t.Run(p.name, func(t *testing.T) {
			runtime := runtimeDir(t)
			r := startRun(t, env, runtime)
			poll(t, func() []string {
				if p.reached(t, r) {
					return nil
				}
				return []string{"never came to this point"}
			})
			started := descendants(t, r.cmd.Process.Pid)
			if err := r.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = r.cmd.Wait() // it was killed
			poll(t, func() []string { return leftovers(t, runtime, started) })
			next := micaRun(env, runtime, "echo", "works")
			out, err := next.Output()
			if string(out) != "works\n" || err != nil {
				t.Errorf("the next run printed %q and ended with %v", out, err)
			}
		})
	}
}

func hasFile(pattern string) func(*testing.T, *killable) bool {
	return func(t *testing.T, r *killable) bool {
		found, err := filepath.Glob(filepath.Join(r.runtime, pattern))
		return err == nil && len(found) > 0
	}
}

func hasChild(word string) func(*testing.T, *killable) bool {
	return func(t *testing.T, r *killable) bool {
		for pid := range descendants(t, r.cmd.Process.Pid) {
			if command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.Contains(command, []byte(word)) {
				return true
			}
		}
		return false
	}
}

// A killable is a run whose command says that it is there, and ends when its standard input does.
type killable struct {
	cmd     *exec.Cmd
	runtime string // its XDG_RUNTIME_DIR
	stdin   io.WriteCloser
	stdout  *bufio.Reader
}

func startRun(t *testing.T, env []string, runtime string) *killable {
	t.Helper()
	r := &killable{cmd: micaRun(env, runtime, "sh", "-c", "echo here; cat; echo bye"), runtime: runtime}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdout = bufio.NewReader(stdout)
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // when the test fails before it does
	return r
}

func (r *killable) readLine(t *testing.T, want string) {
	t.Helper()
	if line, err := r.stdout.ReadString('\n'); line != want+"\n" {
		t.Fatalf("the guest said %q, want %s: %v", line, want, err)
	}
}

func micaRun(env []string, runtime string, command ...string) *exec.Cmd {
	args := []string{"run", "--vmm", "qemu", "--transport", "vhost-user"}
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

// poll waits until nothing is wrong, for a minute.
func poll(t *testing.T, wrong func() []string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for lines := wrong(); len(lines) > 0; lines = wrong() {
		if time.Now().After(deadline) {
			t.Fatal(strings.Join(lines, "\n"))
		}
		time.Sleep(time.Millisecond)
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

// A process is known by its id and by when it started, in the kernel's ticks.
type processes map[int]string

// descendants are the processes that pid has started, and those that they have.
func descendants(t *testing.T, pid int) processes {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	started := map[int]string{}
	for _, stat := range stats {
		id, parent, start, ok := readStat(stat)
		if !ok {
			continue // has ended
		}
		children[parent] = append(children[parent], id)
		started[id] = start
	}
	found := processes{}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		found[next[0]] = started[next[0]]
		next = append(next, children[next[0]]...)
	}
	return found
}

// readStat reads what proc(5) calls pid, ppid and starttime: fields 1, 4 and 22; the second can hold anything in parentheses. A zombie counts as ended.
func readStat(path string) (id, parent int, start string, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, 0, "", false
	}
	id, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	parent, _ = strconv.Atoi(fields[1])
	return id, parent, fields[19], true
}

// leftovers names what a run has left: files in its XDG_RUNTIME_DIR, mounts there, and processes, those that were seen and those that have it
// in their environment.
func leftovers(t *testing.T, runtime string, seen processes) []string {
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
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		id, _, start, ok := readStat(stat)
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "environ"))
		if ok && (seen[id] == start || bytes.Contains(environ, []byte(runtime))) {
			left = append(left, fmt.Sprintf("process %d", id))
		}
	}
	return left
}
