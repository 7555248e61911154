// Package boot starts the smallest machine on each monitor, with no supervisor: a kernel, a PID 1 that echoes, two sockets.
package boot

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/initramfs"
	"github.com/micavm/mica/launcher/kernel"
	"github.com/micavm/mica/launcher/krun"
	"github.com/micavm/mica/launcher/qemu"
	"github.com/micavm/mica/launcher/vmm"
	"github.com/micavm/mica/tests/amdvhost"
)

// TestMain is also the child that enters libkrun: the driver runs its own program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == krun.ChildWord {
		var config krun.Config
		err := json.NewDecoder(os.Stdin).Decode(&config)
		if err == nil {
			err = krun.Enter(config)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestQEMU(t *testing.T) {
	monitor, err := qemu.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("accelerator %s (%v)", monitor.Accelerator, monitor.Why)
	checkEcho(t, monitor)
}

func TestKrun(t *testing.T) {
	if !amdvhost.Inside(t) {
		return
	}
	monitor, err := krun.New()
	if err != nil {
		t.Fatal(err)
	}
	checkEcho(t, monitor)
}

// checkEcho boots echoinit: a line comes on the control port, another goes there and back, the console has a third, and
// the monitor ends with status 0.
func checkEcho(t *testing.T, monitor vmm.VMM) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	image, err := kernel.Find(ctx, kernel.Search{DataDir: t.TempDir(), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	control, controlOfGuest := socketPair(t)
	console, consoleOfGuest := socketPair(t)
	var words bytes.Buffer
	child := command(ctx, t, monitor, vmm.Machine{
		Name: "echo", CPUs: 1, MemoryMiB: 256,
		Kernel: image.Path, Initrd: initrd(t), Cmdline: "quiet",
		Control: controlOfGuest, Console: consoleOfGuest,
	})
	child.Stderr = &words
	start := time.Now()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	controlOfGuest.Close()
	consoleOfGuest.Close()
	consoleText := make(chan string)
	go func() {
		text, _ := io.ReadAll(console)
		consoleText <- string(text)
	}()

	lines := bufio.NewReader(control)
	ready, err := lines.ReadString('\n')
	t.Logf("ready after %v", time.Since(start))
	if ready != "ready\n" {
		t.Errorf("control port: %q, %v, want ready", ready, err)
	}
	if _, err := io.WriteString(control, "there and back\n"); err != nil {
		t.Error(err)
	}
	if back, err := lines.ReadString('\n'); back != "there and back\n" {
		t.Errorf("control port: %q, %v, want what was written to it", back, err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("%s: %v", monitor.Name(), err)
	}
	t.Logf("ended after %v", time.Since(start))
	if text := <-consoleText; !strings.Contains(text, "echoinit: console=hvc0 panic=-1") || !strings.Contains(text, " quiet") {
		t.Errorf("console: %q, want the line of echoinit", text)
	}
	if t.Failed() {
		t.Logf("the monitor's own words:\n%s", &words)
	}
}

// command is the child process that monitor asks for, as a supervisor would start it.
func command(ctx context.Context, t *testing.T, monitor vmm.VMM, m vmm.Machine) *exec.Cmd {
	t.Helper()
	asked, err := monitor.Command(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(ctx, asked.Path)
	child.Args = asked.Args
	child.Env = asked.Env
	child.ExtraFiles = asked.Files
	child.Stdin = bytes.NewReader(asked.Stdin)
	return child
}

func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "host's end"), os.NewFile(uintptr(pair[1]), "guest's end")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

//go:embed echoinit.sh
var echoinit []byte

// initrd is an archive of echoinit as /init, and the console that PID 1 has as its standard output.
func initrd(t *testing.T) string {
	t.Helper()
	busybox, err := os.ReadFile(filepath.Join(os.Getenv("MICA_TEST_CACHE"), "amdv", "busybox"))
	if err != nil {
		t.Fatalf("%v: run tests/setup.sh", err)
	}
	path := filepath.Join(t.TempDir(), "initrd")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := initramfs.Write(file, []initramfs.File{
		{Path: "busybox", Mode: 0o755, Data: busybox},
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "init", Mode: 0o755, Data: echoinit},
		{Path: "proc", Mode: fs.ModeDir | 0o755},
		{Path: "sys", Mode: fs.ModeDir | 0o755},
	}); err != nil {
		t.Fatal(err)
	}
	return path
}
