package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micavm/mica/guest-init/wire"
)

// startMachine starts a guest with a root of its own, which has little but busybox, and two volumes. root is its folder on this side.
func startMachine(t *testing.T, b *wire.Boot) (g *guest, root string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("devices take root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil || interpreter(busybox) != "" {
		t.Fatal("no static busybox: run tests/setup.sh")
	}
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	for _, folder := range []string{"root/bin", "root/dev", "root/proc", "root/sys", "root/run", "root/tmp", "root/src", "root/etc", "v0", "v1"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"root/bin/busybox": string(program),
		"root/etc/passwd":  "app:x:1000:1000::/home/app:/bin/sh\n",
		"root/etc/group":   "app:x:1000:\nwheel:x:10:app\n",
		"v0/file":          "of v0\n",
		"v1/file":          "of v1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, applet := range []string{"sh", "ls", "cat", "touch", "mount", "hostname", "id", "tty", "stty", "grep", "cut"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	shares := []string{wire.TagRoot + "=" + root, "v0=" + dir + "/v0", "v1=" + dir + "/v1"}
	return startAs(t, b, nil, asGuest+"=machine", sharesVar+"="+strings.Join(shares, ":")), root
}

func machineBoot(script string) *wire.Boot {
	b := shell(script)
	b.Hostname = "box"
	b.Volumes = []wire.Mount{{Tag: "v0", Path: "/src"}, {Tag: "v1", Path: "/run/deps", ReadOnly: true}}
	return b
}

func TestMachine(t *testing.T) {
	g, root := startMachine(t, machineBoot(`
		ls /
		hostname
		cat /src/file /run/deps/file
		touch /src/new /tmp/new /run/new
		touch /run/deps/new
		cat /sys/class/net/lo/flags
		cut -d ' ' -f 2,3 /proc/mounts | grep -v cgroup2
		echo more >/dev/stdout
		exit 7`))
	stdout, stderr, exit := finish(g)
	want := `bin
dev
etc
proc
run
src
sys
tmp
box
of v0
of v1
0x9
/dev tmpfs
/proc proc
/sys sysfs
/ TYPE
/dev/pts devpts
/dev/shm tmpfs
/dev/mqueue mqueue
/run tmpfs
/src TYPE
/run/deps TYPE
more
`
	// What type the folders of this test have is the machine's affair.
	lines := strings.Split(stdout, "\n")
	for i, line := range lines {
		for _, path := range []string{"/ ", "/src ", "/run/deps "} {
			if strings.HasPrefix(line, path) {
				lines[i] = path + "TYPE"
			}
		}
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("output\n%s\nwant\n%s", got, want)
	}
	if stderr != "touch: /run/deps/new: Read-only file system\n" || exit != (wire.Exit{Code: 7}) {
		t.Errorf("standard error %q, %+v", stderr, exit)
	}
	for path, there := range map[string]bool{"tmp/new": true, "../v0/new": true, "run/new": false, "../v1/new": false} {
		if _, err := os.Stat(filepath.Join(root, path)); there != (err == nil) {
			t.Errorf("%s on this side: %v", path, err)
		}
	}
}

func TestMachineReadOnly(t *testing.T) {
	b := machineBoot("touch /tmp/new; echo x >/run/new && cat /run/new")
	b.Root.ReadOnly = true
	g, _ := startMachine(t, b)
	stdout, stderr, exit := finish(g)
	if stdout != "x\n" || stderr != "touch: /tmp/new: Read-only file system\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %q, %+v", stdout, stderr, exit)
	}
}

func TestMachineTerminal(t *testing.T) {
	b := machineBoot("tty; stty size; id; echo $HOME; echo again >/dev/tty")
	b.TTY, b.Rows, b.Cols, b.User = true, 24, 80, "app"
	g, _ := startMachine(t, b)
	stdout, _, exit := finish(g)
	want := "/dev/pts/0\r\n24 80\r\nuid=1000(app) gid=1000(app) groups=10(wheel),1000(app)\r\n/home/app\r\nagain\r\n"
	if stdout != want || exit != (wire.Exit{}) {
		t.Errorf("output %q, %+v; want %q", stdout, exit, want)
	}
}

func TestMachineVolumeFails(t *testing.T) {
	b := machineBoot("echo never")
	b.Volumes = append(b.Volumes, wire.Mount{Tag: "v9", Path: "/src/deps"})
	g, _ := startMachine(t, b)
	stdout, _, exit := finish(g)
	want := wire.Exit{Code: 125, Error: "mount volume /src/deps: no virtiofs device has the tag v9"}
	if stdout != "" || exit != want {
		t.Errorf("output %q, %+v; want %+v", stdout, exit, want)
	}
}
