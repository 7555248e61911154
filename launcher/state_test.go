package launcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func thisProcess(t *testing.T) process {
	t.Helper()
	p, err := findProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReusedProcessNumberIsNotBelieved(t *testing.T) {
	p := thisProcess(t)
	if !p.alive() {
		t.Error("this process counts as dead")
	}
	p.Start--
	if p.alive() {
		t.Error("another process of this number counts as alive")
	}
	if err := p.kill(9); err != nil {
		t.Errorf("kill of a process that has ended: %v", err)
	}
}

func TestZombieIsDead(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := process{PID: cmd.Process.Pid}
	if stat, err := findProcess(p.PID); err == nil {
		p = stat
	}
	eventually(t, "a zombie counts as dead", func() bool { return !p.alive() })
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestClaim(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	root, err := runtimeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, runName("web", "/project"))
	s := State{Name: "web", Project: "/project", Image: "oci:x", Process: thisProcess(t), Started: time.Now()}
	first, err := claim(t.Context(), dir, s)
	if err != nil {
		t.Fatal(err)
	}

	_, err = claim(t.Context(), dir, s)
	want := regexp.MustCompile(`^sandbox web is running since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(pid \d+\): stop it with mica stop web$`)
	if !errors.Is(err, ErrRunning) || !want.MatchString(err.Error()) {
		t.Errorf("second claim: %v", err)
	}
	running, err := List(t.Context())
	if err != nil || len(running) != 1 || running[0].Name != "web" {
		t.Errorf("list: %v, %v", running, err)
	}
	other, err := claim(t.Context(), filepath.Join(root, runName("web", "/other")), s)
	if err != nil {
		t.Fatalf("the same name in another project: %v", err)
	}
	if err := other.remove(); err != nil {
		t.Error(err)
	}

	// A supervisor that was killed leaves its folder: the next run takes it over, with nothing in it.
	if err := os.Mkdir(filepath.Join(dir, "left"), 0); err != nil {
		t.Fatal(err)
	}
	first.release()
	again, err := claim(t.Context(), dir, s)
	if err != nil {
		t.Fatalf("claim after a crash: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "left")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the crash left: %v", err)
	}
	if err := again.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run folder after its removal: %v", err)
	}
}

func TestListRemovesWhatTheDeadLeft(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	root, err := runtimeDir()
	if err != nil {
		t.Fatal(err)
	}
	dead := thisProcess(t)
	dead.Start--
	dir := filepath.Join(root, "dead-00000000")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (State{Name: "dead", Process: dead}).publish(dir); err != nil {
		t.Fatal(err)
	}
	if running, err := List(t.Context()); err != nil || len(running) != 0 {
		t.Errorf("list: %v, %v", running, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of a dead sandbox: %v", err)
	}
	_, err = find(t.Context(), "dead", "")
	if !errors.Is(err, ErrNotFound) || err.Error() != "sandbox dead is not running: mica ls lists those that do" {
		t.Errorf("find: %v", err)
	}
}

func TestRuntimeDirOfSomebodyElse(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := ownedPrivately(open); err == nil {
		t.Error("a folder that others can read counts as private")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := ownedPrivately(link); err == nil {
		t.Error("a symbolic link counts as a private folder")
	}
}
