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
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/micavm/mica/tests/amdvhost"
	"github.com/micavm/mica/tests/testenv"
)

// only picks scripts, like: go test ./tests/vm -run QEMU/vhost-user -script status.txtar
var only = flag.String("script", "*.txtar", "run the scripts whose names match this pattern")

// A way is a monitor and a transport, and who runs mica.
type way struct {
	vmm, transport string
	virtiofsd      string // the program, for that transport
	ordinary       bool   // a user without privileges, not root
}

// nobody is the ordinary user.
const nobody = 65534

// The folders of testdata: "each" has what every way has to do, "script" what does not depend on the transport, "mount" what mounts on the
// host too, "slow" a whole Debian system.

func TestQEMU(t *testing.T) {
	t.Run("vhost-user", func(t *testing.T) {
		runScripts(t, way{vmm: "qemu", transport: "vhost-user"}, "each", "script", "mount", "slow")
	})
	t.Run("virtiofsd-c", func(t *testing.T) {
		runScripts(t, way{vmm: "qemu", transport: "virtiofsd", virtiofsd: testenv.CVirtiofsd(t)}, "each")
	})
	t.Run("virtiofsd-rust", func(t *testing.T) {
		runScripts(t, way{vmm: "qemu", transport: "virtiofsd", virtiofsd: testenv.RustVirtiofsd(t)}, "each", "mount")
	})
}

func TestOrdinaryUser(t *testing.T) {
	testenv.Root(t)
	runScripts(t, way{vmm: "qemu", transport: "vhost-user", ordinary: true}, "script")
}

func TestKrun(t *testing.T) {
	if !amdvhost.Inside(t, 8*time.Minute) {
		return
	}
	runScripts(t, way{vmm: "krun", transport: "krun"}, "each")
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
	home := newHome(t, w)
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		// Volumes and uppers need xattrs, which /tmp may not have.
		WorkdirRoot: home.scripts,
		Cmds:        map[string]func(*testscript.TestScript, bool, []string){"mica": micaCommand, "run": runCommand},
		Setup:       home.setUp,
	})
}

// A home is what the scripts of one way share: a store of images, and an environment.
type home struct {
	way     way
	env     []string
	scripts string // their folders
}

// newHome gives every script $MICA, the words that start the program; $WAY, the flags that choose monitor and transport; $RUN, the words that
// start a run of the busybox image; $BUSYBOX, $DEBIAN and $DEBS, images and a folder of packages.
func newHome(t *testing.T, w way) *home {
	t.Helper()
	dir := testenv.Dir(t)
	mica := testenv.Mica(t)
	h := &home{way: w, scripts: filepath.Join(dir, "scripts")}
	if err := os.Mkdir(h.scripts, 0o755); err != nil {
		t.Fatal(err)
	}
	busybox, kernel := testenv.Image(t, "busybox"), testenv.Kernel(t)
	withoutInitramfs := testenv.KernelWithoutInitramfs(t)
	words := mica
	if w.ordinary {
		// What the tests use may be in folders that are root's alone.
		words = "setpriv --reuid 65534 --regid 65534 --clear-groups " + copyOf(t, mica, dir, "mica")
		busybox = "oci:" + copyOf(t, testenv.Cache(t, "images", "busybox"), dir, "busybox") + ":latest"
		kernel = copyOf(t, kernel, dir, "vmlinux")
		withoutInitramfs = copyOf(t, withoutInitramfs, dir, "vmlinux-noinitrd")
		testenv.Run(t, "chown", "-R", "65534:65534", dir)
		testenv.Run(t, "chmod", "755", dir)
	}
	flags := "--vmm " + w.vmm + " --transport " + w.transport
	h.env = []string{
		"HOME=" + dir,
		"XDG_DATA_HOME=" + dir + "/data",
		"XDG_CACHE_HOME=" + dir + "/cache",
		"MICA=" + words,
		"WAY=" + flags,
		"RUN=" + words + " run " + flags + " --image " + busybox,
		"BUSYBOX=" + busybox,
		"DEBIAN=" + testenv.Image(t, "debian"),
		"DEBS=" + testenv.Cache(t, "debs"),
		"MICA_KERNEL=" + kernel,
		"MICA_KERNEL_NOINITRD=" + withoutInitramfs,
	}
	if w.vmm == "krun" {
		h.env = append(h.env, "MICA_LIBKRUN="+testenv.Libkrun(t))
	}
	if w.virtiofsd != "" {
		h.env = append(h.env, "MICA_VIRTIOFSD="+w.virtiofsd)
	}
	return h
}

func copyOf(t *testing.T, path, dir, name string) string {
	t.Helper()
	to := filepath.Join(dir, name)
	testenv.Run(t, "cp", "-r", path, to)
	return to
}

// setUp prepares one script.
func (h *home) setUp(e *testscript.Env) error {
	for _, v := range h.env {
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
	if !h.way.ordinary {
		return nil
	}
	return errors.Join(os.Chown(runtime, nobody, nobody), exec.Command("chown", "-R", "65534:65534", e.WorkDir).Run(), os.Chmod(e.WorkDir, 0o755))
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
	words := append(strings.Fields(ts.Getenv("MICA")), args[1])
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
