package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

func furnished() *wire.Boot {
	return &wire.Boot{
		Root:     wire.Mount{Tag: wire.TagRoot, Path: "/", ReadOnly: true},
		Volumes:  []wire.Mount{{Tag: "v0", Path: "/src"}, {Tag: "v1", Path: "/src/deps", ReadOnly: true}},
		Hostname: "box",
	}
}

func TestFurnishFromInitramfs(t *testing.T) {
	sys := newNotes()
	sys.root = unix.RAMFS_MAGIC
	sys.absent = []string{"/sys/fs/cgroup"}
	if err := furnish(sys, furnished()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mount virtiofs mica-root /root ro",
		"move /dev /root/dev",
		"move /proc /root/proc",
		"move /sys /root/sys",
		"chdir /root",
		"move . /",
		"chroot .",
		"chdir /",
		"mkdir /dev/pts",
		"mount devpts devpts /dev/pts",
		"mkdir /dev/shm",
		"mount tmpfs tmpfs /dev/shm",
		"mkdir /dev/mqueue",
		"mount mqueue mqueue /dev/mqueue",
		"mount tmpfs tmpfs /run",
		"link /dev/fd /proc/self/fd",
		"link /dev/stdin /proc/self/fd/0",
		"link /dev/stdout /proc/self/fd/1",
		"link /dev/stderr /proc/self/fd/2",
		"mount virtiofs v0 /src",
		"mount virtiofs v1 /src/deps ro",
		"read ahead / 1024",
		"read ahead /src 1024",
		"read ahead /src/deps 1024",
		"hostname box",
		"up lo",
	}
	if !slices.Equal(sys.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", lines(sys.calls), lines(want))
	}
}

func TestFurnishOnVirtiofsRoot(t *testing.T) {
	sys := newNotes()
	b := furnished()
	b.Root.ReadOnly = false
	if err := furnish(sys, b); err != nil {
		t.Fatal(err)
	}
	if want := []string{"remount /", "mkdir /dev/pts"}; !slices.Equal(sys.calls[:2], want) {
		t.Errorf("first calls:\n%s\nwant:\n%s", lines(sys.calls[:2]), lines(want))
	}
}

func TestFurnishFails(t *testing.T) {
	for _, test := range []struct {
		call string
		err  error
		want string
	}{
		{"mount virtiofs mica-root /root ro", unix.EINVAL, "mount root: no virtiofs device has the tag mica-root"},
		{"mount virtiofs v1 /src/deps ro", unix.ENOENT, "mount volume /src/deps: no such file or directory"},
		{"move /proc /root/proc", unix.ENOENT, "move /proc into the root: no such file or directory"},
		{"hostname box", unix.EINVAL, "set hostname box: invalid argument"},
		{"mount devpts devpts /dev/pts", unix.ENODEV, ""},
		{"up lo", unix.ENODEV, ""},
	} {
		sys := newNotes()
		sys.root = unix.RAMFS_MAGIC
		sys.fail[test.call] = test.err
		err := furnish(sys, furnished())
		if got := fmt.Sprint(err); test.want != "" && got != test.want || test.want == "" && err != nil {
			t.Errorf("%s: %v, want %q", test.call, err, test.want)
		}
	}
}

func TestVolumeInsideRun(t *testing.T) {
	sys := newNotes()
	sys.absent = []string{"/run/cache"}
	if err := mountVolume(sys, wire.Mount{Tag: "v0", Path: "/run/cache"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"mkdir /run/cache", "mount virtiofs v0 /run/cache"}; !slices.Equal(sys.calls, want) {
		t.Errorf("calls:\n%s", lines(sys.calls))
	}
}

func TestEarlyMounts(t *testing.T) {
	sys := newNotes()
	sys.fail["mount devtmpfs devtmpfs /dev"] = unix.EBUSY // by the kernel, already
	if err := mountAll(sys, earlyMounts); err != nil {
		t.Error(err)
	}
	sys.fail["mount proc proc /proc"] = unix.ENODEV
	if err := mountAll(sys, earlyMounts); fmt.Sprint(err) != "mount proc on /proc: no such device" {
		t.Errorf("without proc: %v", err)
	}
}

// TestFailureReachesHost has a volume that cannot be mounted: all is undone, and the host knows why.
func TestFailureReachesHost(t *testing.T) {
	sys := newNotes()
	sys.fail["mount virtiofs v0 /src"] = unix.EINVAL
	var toHost bytes.Buffer
	fromHost := bytes.NewBuffer(nil)
	wire.NewConn(port{nil, fromHost}).WriteBoot(furnished())
	wire.NewConn(port{nil, fromHost}).WriteFrame(wire.TypeExit, nil)
	if err := attend(sys, port{fromHost, &toHost}); err != nil {
		t.Fatal(err)
	}
	host := wire.NewConn(port{&toHost, nil})
	if typ, _, err := host.ReadFrame(); typ != wire.TypeReady || err != nil {
		t.Fatalf("%v, %v; want ready", typ, err)
	}
	typ, payload, err := host.ReadFrame()
	if typ != wire.TypeExit || err != nil {
		t.Fatalf("%v, %v; want exit", typ, err)
	}
	want := wire.Exit{Code: 125, Error: "mount volume /src: no virtiofs device has the tag v0"}
	if exit, err := wire.ParseExit(payload); exit != want || err != nil {
		t.Errorf("exit %+v, %v; want %+v", exit, err, want)
	}
	if end := sys.calls[len(sys.calls)-3:]; !slices.Equal(end, []string{"sync", "unmount /src/deps", "unmount /src"}) {
		t.Errorf("last calls:\n%s", lines(end))
	}
}

func TestPanicReboots(t *testing.T) {
	sys := newNotes()
	guard(sys, func() { panic("expected: a test of it") })
	if !slices.Equal(sys.calls, []string{"reboot"}) {
		t.Errorf("calls:\n%s", lines(sys.calls))
	}
}

type port struct {
	io.Reader
	io.Writer
}

func (port) Close() error { return nil }

func lines(calls []string) string {
	var b bytes.Buffer
	for _, c := range calls {
		fmt.Fprintf(&b, "\t%s\n", c)
	}
	return b.String()
}
