package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDetach(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/sh", "-c", "echo out; echo err >&2; printf %s \"$0\"; exec sleep 600", "not text: \xff")
	p.Name, p.ThrowAway, p.Project = "web", false, t.TempDir()
	p.Upper = filepath.Join(p.Project, ".mica", "web")
	if err := Detach(p); err != nil {
		t.Fatal(err)
	}
	running, err := List(t.Context())
	if err != nil || len(running) != 1 || running[0].PID() == os.Getpid() || !running[0].Up {
		t.Errorf("list: %+v, %v", running, err)
	}
	want := map[string]string{"stdout.log": "out\nnot text: \xff", "stderr.log": "err\n"}
	for name, text := range want {
		eventually(t, name+" has what the command wrote", func() bool {
			got, err := os.ReadFile(filepath.Join(p.Upper, "log", name))
			return err == nil && string(got) == text
		})
	}
	if err := Detach(p); err == nil {
		t.Error("a second run of the same sandbox starts")
	}
	if err := Stop(t.Context(), "web", p.Project); err != nil {
		t.Error(err)
	}
}

func TestDetachSaysWhyNot(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/true")
	p.ThrowAway, p.Project = false, "/proc/nowhere"
	if err := Detach(p); err == nil || !strings.Contains(err.Error(), p.Project) {
		t.Errorf("a sandbox of a project that is not there: %v", err)
	}
}
