package vm

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/micavm/mica/tests/amdvhost"
	"github.com/micavm/mica/tests/testenv"
)

// only picks scripts, like: go test ./tests/vm -run QEMU/vhost-user -script status.txtar
var only = flag.String("script", "*.txtar", "run the scripts whose names match this pattern")

// A way is a monitor and a transport.
type way struct {
	vmm, transport string
	virtiofsd      string // the program, for that transport
}

func TestQEMU(t *testing.T) {
	t.Run("vhost-user", func(t *testing.T) { runScripts(t, way{vmm: "qemu", transport: "vhost-user"}, "script", "slow") })
	t.Run("virtiofsd-c", func(t *testing.T) { runScripts(t, way{"qemu", "virtiofsd", testenv.CVirtiofsd(t)}, "script") })
	t.Run("virtiofsd-rust", func(t *testing.T) { runScripts(t, way{"qemu", "virtiofsd", testenv.RustVirtiofsd(t)}, "script") })
}

func TestKrun(t *testing.T) {
	if !amdvhost.Inside(t) {
		return
	}
	runScripts(t, way{vmm: "krun", transport: "krun"}, "script")
}

// runScripts runs the scripts of testdata/FOLDER…, which share a store of images and nothing else.
func runScripts(t *testing.T, w way, folders ...string) {
	var files []string
	for _, folder := range folders {
		matches, err := filepath.Glob(filepath.Join("testdata", folder, *only))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, matches...)
	}
	if len(files) == 0 {
		t.Skipf("no script is called %s", *only)
	}
	env := environment(t, w)
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"mica": micaCommand, "run": runCommand},
		Setup: func(e *testscript.Env) error {
			for _, v := range env {
				key, value, _ := strings.Cut(v, "=")
				e.Setenv(key, value)
			}
			// a folder of sockets for each script, with a path that is short enough for them
			runtime, err := os.MkdirTemp("/var/tmp", "mica-run-")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(runtime) })
			e.Setenv("XDG_RUNTIME_DIR", runtime)
			return nil
		},
	})
}

// environment is what every script finds: $MICA, the program; $RUN, the words that start a run of the busybox image; $WAY, the flags
// that choose monitor and transport; and where mica keeps its data.
func environment(t *testing.T, w way) []string {
	t.Helper()
	dir := testenv.Dir(t)
	flags := "--vmm " + w.vmm + " --transport " + w.transport
	mica := testenv.Mica(t)
	env := []string{
		"PATH=" + filepath.Dir(mica) + ":" + os.Getenv("PATH"),
		"HOME=" + dir,
		"XDG_DATA_HOME=" + dir + "/data",
		"XDG_CACHE_HOME=" + dir + "/cache",
		"MICA=" + mica,
		"WAY=" + flags,
		"BUSYBOX=" + testenv.Image(t, "busybox"),
		"DEBIAN=" + testenv.Image(t, "debian"),
		"DEBS=" + testenv.Cache(t, "debs"),
		"RUN=" + mica + " run " + flags + " --image " + testenv.Image(t, "busybox"),
		"MICA_KERNEL=" + testenv.Kernel(t),
		"MICA_KERNEL_NOINITRD=" + testenv.KernelWithoutInitramfs(t),
		"MICA_LIBKRUN=" + testenv.Libkrun(t),
	}
	if w.virtiofsd != "" {
		env = append(env, "MICA_VIRTIOFSD="+w.virtiofsd)
	}
	return env
}

// runCommand is the script command "run STATUS ARGS…": a run of the busybox image with these flags and this command, which ends with
// STATUS. What it wrote is in stdout and stderr, as after exec.
func runCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run STATUS args…")
	}
	expect(ts, args[0], append(strings.Fields(ts.Getenv("RUN")), args[1:]...))
}

// micaCommand is the script command "mica STATUS VERB ARGS…"; $WAY is added to a run.
func micaCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mica STATUS verb args…")
	}
	words := []string{ts.Getenv("MICA"), args[1]}
	if args[1] == "run" {
		words = append(words, strings.Fields(ts.Getenv("WAY"))...)
	}
	expect(ts, args[0], append(words, args[2:]...))
}

func expect(ts *testscript.TestScript, status string, words []string) {
	want, err := strconv.Atoi(status)
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(words[0], words[1:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", words[0], err)
	}
	if got != want {
		ts.Fatalf("%q: status %d, want %d\nstdout: %s\nstderr: %s", words, got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
