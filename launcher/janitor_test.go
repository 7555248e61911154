package launcher

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// doomedSupervisor makes all that a janitor cleans up, says what, and waits to be killed. Its argument is the folder for it.
func doomedSupervisor() {
	err := func() error {
		dir := os.Args[2]
		j, err := startJanitor(os.Stderr, nil)
		if err != nil {
			return err
		}
		run, mountpoint := filepath.Join(dir, "run"), filepath.Join(dir, "mountpoint")
		if err := errors.Join(j.tell(order{Remove: run}), j.tell(order{Unmount: mountpoint}), j.tell(order{Remove: filepath.Join(dir, "never made")})); err != nil {
			return err
		}
		if _, err := lockFolder(run); err != nil {
			return err
		}
		if err := os.Mkdir(mountpoint, 0o700); err != nil {
			return err
		}
		if _, err := mountDevice(fuseMount{Dir: mountpoint, Source: "doomed"}); err != nil {
			return err
		}
		sleeper := exec.Command("sleep", "600")
		if err := sleeper.Start(); err != nil {
			return err
		}
		p, err := findProcess(sleeper.Process.Pid)
		if err != nil {
			return err
		}
		if err := j.tell(order{Kill: &p}); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(p)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

func TestJanitorCleansUpAfterAKilledSupervisor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root: run the tests as tests/setup.sh says")
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "doomed-supervisor", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var sleeper process
	if err := json.Unmarshal(line, &sleeper); err != nil {
		t.Fatal(err)
	}
	if !sleeper.alive() {
		t.Error("the supervisor's child does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be

	eventually(t, "run folder is removed", func() bool {
		_, err := os.Lstat(filepath.Join(dir, "run"))
		return errors.Is(err, os.ErrNotExist)
	})
	if sleeper.alive() {
		t.Error("the supervisor's child runs on")
	}
	if err := os.Remove(filepath.Join(dir, "mountpoint")); err != nil {
		t.Errorf("mount point is in use: %v", err)
	}
}

func TestJanitorLeavesTheNextRunAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	next, err := claim(t.Context(), dir, State{Name: "web", Process: thisProcess(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer next.release()
	earlier := thisProcess(t)
	earlier.Start--
	if err := cleanUp([]order{{Remove: dir}}, earlier); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		t.Errorf("the next run's state: %v", err)
	}
}

func TestRemoveTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(dir, "closed", "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("tree: %v", err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("target of a link in the tree: %v", err)
	}
}
