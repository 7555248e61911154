package launcher

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/landlock"
)

const wordConfinedRun = "confined-run"

// confinedRun is mica run over a process in place of a machine. Its plan is on standard input.
func confinedRun() {
	p := new(Plan)
	if err := json.NewDecoder(os.Stdin).Decode(p); err != nil {
		endProcess(StatusFailed, err)
	}
	endProcess(fakeProcess(p, IO{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}).execute(context.Background()))
}

// An attempt is one thing that the confined process tries before it goes on, and Got says what came of it.
type attempt struct {
	Do, Path string
	Got      string `json:",omitempty"` // "" when it was allowed
}

// attemptsVariable holds attempts for confinedSupervise, which writes them to standard output.
const attemptsVariable = "MICA_TEST_ATTEMPTS"

// confinedSupervise is the second half of that run.
func confinedSupervise() {
	var attempts []attempt
	if text := os.Getenv(attemptsVariable); text != "" {
		if err := json.Unmarshal([]byte(text), &attempts); err != nil {
			endProcess(StatusFailed, err)
		}
		for i := range attempts {
			if err := attempts[i].try(); err != nil {
				attempts[i].Got = err.Error()
			}
		}
		if err := json.NewEncoder(os.Stdout).Encode(attempts); err != nil {
			endProcess(StatusFailed, err)
		}
	}
	endProcess(Supervise(context.Background()))
}

func endProcess(status Status, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(int(status))
}

func (a attempt) try() error {
	switch a.Do {
	case "read":
		_, err := os.ReadFile(a.Path)
		return err
	case "map":
		return mapFile(a.Path)
	case "list":
		_, err := os.ReadDir(a.Path)
		return err
	case "write":
		return os.WriteFile(a.Path, nil, 0o600)
	case "listen":
		l, err := net.Listen("unix", a.Path)
		if err != nil {
			return err
		}
		return l.Close()
	case "execute":
		return exec.Command(a.Path).Run()
	case "mount":
		return unix.Mount("none", a.Path, "tmpfs", 0, "")
	}
	return fmt.Errorf("no attempt is called %s", a.Do)
}

func mapFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return unix.Munmap(p)
}

// runConfined runs the plan in a process of its own, which makes the attempts at the beginning of its second half.
func runConfined(t *testing.T, p *Plan, attempts []attempt) (made []attempt, got result) {
	t.Helper()
	if _, err := landlock.Version(); errors.Is(err, landlock.ErrUnsupported) {
		t.Skip("this kernel has no Landlock: runs are not confined")
	}
	plan, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(attempts)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(os.Args[0], wordConfinedRun)
	cmd.Env = append(os.Environ(), attemptsVariable+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plan), &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	first := bufio.NewReader(&stdout)
	line, err := first.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &made)
	}
	if err != nil {
		t.Fatalf("attempts: %v: %s%s", err, line, &stderr)
	}
	rest, _ := first.ReadString(0)
	return made, result{status: Status(cmd.ProcessState.ExitCode()), stdout: rest, stderr: stderr.String()}
}

func TestTheSupervisorIsConfined(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/sh", "-c", "echo up; exit 7")
	p.Name, p.ThrowAway, p.Project = "web", false, t.TempDir()
	p.Upper = filepath.Join(p.Project, ".mica", "web")
	writable, readable, other := t.TempDir(), t.TempDir(), t.TempDir()
	p.Volumes = []Volume{{Host: writable, Guest: "/w"}, {Host: readable, Guest: "/r", ReadOnly: true}}
	layer := p.Image.Layers[0].Dir
	for _, dir := range []string{layer, writable, readable, other, p.Project} {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run, err := runDir(p.Name, p.Project)
	if err != nil {
		t.Fatal(err)
	}
	allowed := []attempt{
		{Do: "read", Path: layer + "/file"},
		{Do: "map", Path: layer + "/file"},
		{Do: "list", Path: layer},
		{Do: "write", Path: p.Upper + "/upper/new"},
		{Do: "write", Path: p.Upper + "/log/new.log"},
		{Do: "listen", Path: run + "/new.sock"},
		{Do: "write", Path: writable + "/file"},
		{Do: "read", Path: readable + "/file"},
		{Do: "write", Path: "/dev/null"}, // go-fuse empties pipes into it, and panics when it cannot
	}
	refused := []attempt{
		{Do: "write", Path: layer + "/file"},
		{Do: "write", Path: readable + "/file"},
		{Do: "read", Path: other + "/file"},
		{Do: "list", Path: other},
		{Do: "write", Path: other + "/new"},
		{Do: "read", Path: p.Project + "/file"},
		{Do: "list", Path: filepath.Dir(run)},
		{Do: "listen", Path: other + "/new.sock"},
		{Do: "read", Path: "/etc/passwd"},
		{Do: "read", Path: "/proc/self/environ"},
		{Do: "execute", Path: "/bin/true"},
		{Do: "mount", Path: writable},
	}
	if err := os.MkdirAll(p.Upper+"/log", 0o700); err != nil {
		t.Fatal(err)
	}
	made, got := runConfined(t, p, append(allowed, refused...))
	for i, a := range made {
		if i < len(allowed) && a.Got != "" {
			t.Errorf("%s %s: %s", a.Do, a.Path, a.Got)
		}
		if i >= len(allowed) && a.Got == "" {
			t.Errorf("%s %s is allowed", a.Do, a.Path)
		}
	}
	if want := (result{status: 7, stdout: "up\n"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestASealedJanitorRemovesNothingMore(t *testing.T) {
	before, after := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "run")
	for _, dir := range []string{before, after} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bystander := exec.Command("sleep", "600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = bystander.Process.Kill(), bystander.Wait() })
	p, err := findProcess(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	j, err := startJanitor(os.Stderr, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []order{{Remove: before}, {Seal: true}, {Remove: after}, {Kill: &p}, {Follow: "/etc/passwd"}, {Detach: "/"}} {
		if err := j.tell(o); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(before); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that it was told of before: %v", err)
	}
	if _, err := os.Stat(after); err != nil {
		t.Errorf("a folder that it was told of after: %v", err)
	}
	if !p.alive() {
		t.Error("a process that it was told of after has ended")
	}
}
