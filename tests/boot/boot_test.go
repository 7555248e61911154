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
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
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

// TestQEMU is QEMU as it is found here: with KVM, or with TCG where there is none.
func TestQEMU(t *testing.T) { checkQEMU(t) }

// TestVirtualization is everything that takes KVM, in one emulated host where this machine has none.
func TestVirtualization(t *testing.T) {
	if !amdvhost.Inside(t, 4*time.Minute) {
		return
	}
	t.Run("qemu", checkQEMU)
	t.Run("krun", checkKrun)
}

func checkQEMU(t *testing.T) {
	monitor, err := qemu.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("accelerator %s (%v)", monitor.Accelerator, monitor.Why)
	t.Run("initramfs", func(t *testing.T) {
		checkEcho(t, monitor, vmm.Machine{Kernel: findKernel(t, true), Initrd: initrd(t)})
	})
	t.Run("root on virtiofs", func(t *testing.T) {
		root := vmm.Share{Tag: wire.TagRoot, Socket: virtiofsd(t, rootFolder(t))}
		checkEcho(t, monitor, vmm.Machine{Kernel: findKernel(t, false), Shares: []vmm.Share{root}})
	})
}

func checkKrun(t *testing.T) {
	monitor, err := krun.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("initramfs", func(t *testing.T) {
		checkEcho(t, monitor, vmm.Machine{Kernel: findKernel(t, true), Initrd: initrd(t)})
	})
	t.Run("root on virtiofs", func(t *testing.T) {
		root := vmm.Share{Tag: wire.TagRoot, Folder: rootFolder(t)}
		checkEcho(t, monitor, vmm.Machine{Kernel: findKernel(t, false), Shares: []vmm.Share{root}})
	})
}

// findKernel gives one of the two kernels that set-up leaves.
func findKernel(t *testing.T, initramfs bool) string {
	t.Helper()
	variable := "MICA_KERNEL"
	if !initramfs {
		variable = "MICA_KERNEL_NOINITRD"
	}
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf(`%s is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`, variable)
	}
	found, err := kernel.Find(t.Context(), kernel.Search{Flag: path})
	if err != nil {
		t.Fatal(err)
	}
	if found.Initramfs != initramfs {
		t.Fatalf("kernel %s: initramfs support %v, want %v", path, found.Initramfs, initramfs)
	}
	return path
}

// checkEcho boots echoinit in m: a line comes on the control port, another goes there and back, the console has a third, and
// the monitor ends with status 0.
func checkEcho(t *testing.T, monitor vmm.VMM, m vmm.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	control, controlOfGuest := socketPair(t)
	console, consoleOfGuest := socketPair(t)
	m.Name, m.CPUs, m.MemoryMiB, m.Cmdline = "echo", 1, 256, "quiet"
	m.Control, m.Console = controlOfGuest, consoleOfGuest
	var words bytes.Buffer
	child := command(ctx, t, monitor, m)
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
	text := <-consoleText
	if !strings.Contains(text, "echoinit: console=hvc0 panic=-1") || !strings.Contains(text, " quiet") {
		t.Errorf("the console lacks the line of echoinit")
	}
	if t.Failed() {
		t.Logf("console:\n%s\nthe monitor's own words:\n%s", text, &words)
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

func busybox(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(os.Getenv("MICA_TEST_CACHE"), "amdv", "busybox"))
	if err != nil {
		t.Fatalf("%v: run tests/setup.sh", err)
	}
	return program
}

// initrd is an archive of echoinit as /init, and the console that PID 1 has as its standard output.
func initrd(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := initramfs.Write(file, []initramfs.File{
		{Path: "busybox", Mode: 0o755, Data: busybox(t)},
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

// rootFolder has the same files, with echoinit where a kernel without an initramfs looks for it.
func rootFolder(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{".sandbox", "dev", "proc", "sys"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, contents := range map[string][]byte{"busybox": busybox(t), wire.InitPath: echoinit} {
		if err := os.WriteFile(filepath.Join(root, path), contents, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(root, "dev/console"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))); err != nil {
		t.Fatalf("make dev/console, which takes root: %v", err)
	}
	return root
}

// virtiofsd serves folder, for one machine, on the socket that it returns.
func virtiofsd(t *testing.T, folder string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "fs.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	inherited, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	var words bytes.Buffer
	daemon := exec.CommandContext(t.Context(), "/usr/lib/qemu/virtiofsd", "--fd=3", "-o", "source="+folder, "-o", "cache=auto")
	daemon.ExtraFiles = []*os.File{inherited}
	daemon.Stderr = &words
	if err := daemon.Start(); err != nil {
		t.Fatalf("%v: run tests/setup.sh", err)
	}
	t.Cleanup(func() {
		if daemon.Wait(); t.Failed() {
			t.Logf("virtiofsd's own words:\n%s", &words)
		}
	})
	return socket
}
