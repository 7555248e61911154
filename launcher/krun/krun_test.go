package krun

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/micavm/mica/launcher/vmm"
)

func TestNoLibrary(t *testing.T) {
	t.Setenv("MICA_LIBKRUN", "/nonexistent/libkrun.so.1")
	if _, err := New(); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("New: %v, want ErrNoLibrary", err)
	}
}

// TestMissingFunction shows the line that names what a library lacks: the C library lacks all of it.
func TestMissingFunction(t *testing.T) {
	t.Setenv("MICA_LIBKRUN", "libc.so.6")
	_, err := New()
	want := "no libkrun.so.1: libc.so.6 lacks krun_init_log: version 1.17.4 is known to have it"
	if err == nil || err.Error() != want {
		t.Errorf("New: %v, want %s", err, want)
	}
}

// TestLoad finds every function in the real library.
func TestLoad(t *testing.T) {
	if os.Getenv("MICA_LIBKRUN") == "" {
		t.Fatal(`MICA_LIBKRUN is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`)
	}
	if _, err := New(); err != nil {
		t.Error(err)
	}
}

func TestCommand(t *testing.T) {
	machine := vmm.Machine{
		Name: "build", CPUs: 2, MemoryMiB: 512,
		Kernel: "/data/vmlinux", Cmdline: "quiet",
		Shares:  []vmm.Share{{Tag: "mica-root", Folder: "/run/root"}},
		Control: os.Stdin, Console: os.Stdout,
	}
	command, err := (&Krun{Library: "libkrun.so.1"}).Command(context.Background(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"mica", "__krun"}; !reflect.DeepEqual(command.Args, want) {
		t.Errorf("arguments %q, want %q", command.Args, want)
	}
	if want := []*os.File{machine.Console, machine.Control}; !reflect.DeepEqual(command.Files, want) {
		t.Errorf("files %v, want the console as 3 and the control port as 4", command.Files)
	}
	var got Config
	if err := json.Unmarshal(command.Stdin, &got); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Library: "libkrun.so.1", CPUs: 2, MemoryMiB: 512, Kernel: "/data/vmlinux",
		Cmdline: "console=hvc0 panic=-1 reboot=k no_timer_check root=mica-root rootfstype=virtiofs rw init=/.sandbox/init quiet",
		Shares:  machine.Shares,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("standard input %+v, want %+v", got, want)
	}
}

func TestTooManyCPUs(t *testing.T) {
	_, err := (&Krun{}).Command(context.Background(), vmm.Machine{Name: "build", CPUs: 256})
	want := "libkrun runs 255 CPUs at most, and build asks for 256"
	if err == nil || err.Error() != want {
		t.Errorf("Command: %v, want %s", err, want)
	}
}
