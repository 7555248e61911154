package launcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cat reads a file in a process of its own: a server must not wait for a mount that it serves itself.
func cat(path string) string {
	text, err := exec.Command("cat", path).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(text)
	}
	return string(text)
}

func TestMountOfARunningSandboxFollowsMicaToml(t *testing.T) {
	testRoots(t)
	project := t.TempDir()
	config := filepath.Join(project, "mica.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const head = "[sandbox.web]\nimage = \"./root\"\n"
	write(head + "scripts.hello = \"echo one\"\n")
	p := testPlan(t, "/bin/sh", "-c", "echo up; exec sleep 600")
	p.Name, p.ThrowAway, p.Project, p.Config, p.Shell = "web", false, project, config, "/bin/sh"
	p.Upper = filepath.Join(project, ".mica", "web")
	if err := os.MkdirAll(filepath.Join(project, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, end := started(t, p)

	mountpoint := t.TempDir()
	if err := MountRunning(t.Context(), "web", project, mountpoint, false); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(mountpoint, ".sandbox/scripts/hello")
	eventually(t, "the script is there", func() bool { return strings.Contains(cat(script), "echo one") })
	write(head + "scripts.hello = \"echo two\"\n")
	eventually(t, "the script is the edited one", func() bool { return strings.Contains(cat(script), "echo two") })
	write(head + "nonsense = 1\n")
	log := filepath.Join(p.Upper, "log", "mica.log")
	eventually(t, "a broken edit is in the log", func() bool { return strings.Contains(cat(log), "nonsense") })
	if got := cat(script); !strings.Contains(got, "echo two") {
		t.Errorf("the script after a broken edit: %q", got)
	}
	if err := exec.Command("touch", filepath.Join(mountpoint, "new")).Run(); err == nil {
		t.Error("a mount that is not writable can be written to")
	}

	if err := Stop(t.Context(), "web", project); err != nil {
		t.Error(err)
	}
	if got := <-end; got.err != nil || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	if err := unix.Unmount(mountpoint, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the mount is there after the sandbox: %v", err)
	}
	if err := MountRunning(t.Context(), "web", project, mountpoint, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("mount of what does not run: %v", err)
	}
}

func TestMountOfARunningSandboxForWriting(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/sh", "-c", "echo up; exec sleep 600")
	_, end := started(t, p)
	mountpoint := t.TempDir()
	if err := MountRunning(t.Context(), p.Name, "", mountpoint, true); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `echo x >"$0/new"`, mountpoint).CombinedOutput(); err != nil {
		t.Errorf("write: %v: %s", err, out)
	}
	// Somebody unmounts it while the sandbox runs: that is no error of the run.
	if err := unix.Unmount(mountpoint, 0); err != nil {
		t.Error(err)
	}
	if err := Stop(t.Context(), p.Name, ""); err != nil {
		t.Error(err)
	}
	if got := <-end; got.err != nil || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}
