package amdvhost_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/micavm/mica/tests/amdvhost"
)

// TestRun shows what a command finds: KVM, Landlock, this machine's files, its own environment and folder; and what comes back.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	var out, err [2]bytes.Buffer
	statuses, failure := amdvhost.Run(ctx,
		amdvhost.Command{
			Args: []string{"sh", "-c", `
				grep -q svm /proc/cpuinfo && test -c /dev/kvm && echo kvm
				cat /sys/kernel/security/lsm 2>/dev/null || { mount -t securityfs s /sys/kernel/security && cat /sys/kernel/security/lsm; }; echo
				pwd; echo "$WORD"; echo err >&2; echo made >made; exit 7`},
			Dir:    dir,
			Env:    []string{"PATH=" + os.Getenv("PATH"), "WORD=it's $here"},
			Stdout: &out[0], Stderr: &err[0],
		},
		amdvhost.Command{
			Args:   []string{"sh", "-c", `head -c 3000000 /dev/zero; kill -9 $$`},
			Stdout: &out[1], Stderr: &err[1],
		},
	)
	if failure != nil {
		t.Fatal(failure)
	}
	if len(statuses) != 2 || statuses[0] != 7 || statuses[1] != 128+9 {
		t.Errorf("statuses %v, want 7 and 137", statuses)
	}
	lines := strings.Split(out[0].String(), "\n")
	if len(lines) != 5 || lines[0] != "kvm" || !strings.Contains(lines[1], "landlock") || lines[2] != dir || lines[3] != "it's $here" {
		t.Errorf("standard output %q", out[0].String())
	}
	if err[0].String() != "err\n" {
		t.Errorf("standard error %q, want err", err[0].String())
	}
	if out[1].Len() != 3000000 || bytes.ContainsFunc(out[1].Bytes(), func(r rune) bool { return r != 0 }) {
		t.Errorf("the second command's output has %d bytes, want 3,000,000 zeros", out[1].Len())
	}
	if made, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(made) != "made\n" {
		t.Errorf("the file that the command made: %q, %v", made, err)
	}
}

// TestTimeout shows that the error of a host that takes too long is the context's.
func TestTimeout(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := amdvhost.Run(ctx, amdvhost.Command{Args: []string{"sleep", "1000"}})
	if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("Run: %v, want that the deadline is exceeded", err)
	}
}
