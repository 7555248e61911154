package qemu

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micavm/mica/launcher/vmm"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// TestCommand compares the whole command line, an argument a line, with testdata/NAME.golden.
func TestCommand(t *testing.T) {
	machine := vmm.Machine{
		Name:      "build",
		CPUs:      2,
		MemoryMiB: 512,
		Kernel:    "/data/vmlinux",
		Initrd:    "/cache/initrd",
		Cmdline:   "quiet",
		Shares:    []vmm.Share{{Tag: "mica-root", Socket: "/run/fs0.sock", Queues: 2}},
	}
	for name, test := range map[string]struct {
		accelerator Accelerator
		change      func(*vmm.Machine)
	}{
		"kvm":     {KVM, func(*vmm.Machine) {}},
		"tcg":     {TCG, func(*vmm.Machine) {}},
		"volumes": {TCG, func(m *vmm.Machine) { m.Shares = append(m.Shares, vmm.Share{Tag: "volume0", Socket: "/run/fs1.sock"}) }},
		"no-initramfs": {TCG, func(m *vmm.Machine) {
			m.Initrd = ""
		}},
		"commas": {TCG, func(m *vmm.Machine) {
			m.Name = "a,server=on"
			m.Kernel = "/data/a,b"
			m.Shares = []vmm.Share{{Tag: "mica-root", Socket: "/run/a,b.sock"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine
			m.Control, m.Console = os.Stdin, os.Stdout
			test.change(&m)
			q := &QEMU{Path: "/usr/bin/qemu-system-x86_64", Accelerator: test.accelerator}
			command, err := q.Command(context.Background(), m)
			if err != nil {
				t.Fatal(err)
			}
			if len(command.Files) != 2 || command.Files[0] != m.Console || command.Files[1] != m.Control {
				t.Errorf("files %v, want the console as 3 and the control port as 4", command.Files)
			}
			got := strings.Join(command.Args, "\n") + "\n"
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("command line:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestTooManyShares(t *testing.T) {
	m := vmm.Machine{Name: "build", Shares: make([]vmm.Share, MaxShares+1)}
	_, err := (&QEMU{}).Command(context.Background(), m)
	want := "qemu's microvm machine has room for 6 shares, the root among them, and build needs 7"
	if err == nil || err.Error() != want {
		t.Errorf("Command: %v, want %s", err, want)
	}
}
