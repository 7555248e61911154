package vmm

import (
	"strings"
	"testing"
)

func TestHasVirtualization(t *testing.T) {
	for name, test := range map[string]struct {
		cpuinfo string
		want    bool
	}{
		"intel":               {"processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n", true},
		"amd":                 {"flags\t\t: fpu svm\n", true},
		"neither":             {"model name\t: svm\nflags\t\t: fpu svm_lock hypervisor\nbugs\t\t: vmx\n", false},
		"vmx flags line only": {"vmx flags\t: vmx vnmi\nflags\t\t: fpu\n", false},
		"empty":               {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hasVirtualization(strings.NewReader(test.cpuinfo)); got != test.want {
				t.Errorf("hasVirtualization = %v, want %v", got, test.want)
			}
		})
	}
}

func TestKernelCmdline(t *testing.T) {
	root := []Share{{Tag: "mica-root"}, {Tag: "volume0"}}
	for name, test := range map[string]struct {
		machine Machine
		want    string
	}{
		"initramfs": {
			Machine{Initrd: "/initrd", Shares: root, Cmdline: "quiet"},
			"console=hvc0 panic=-1 reboot=t no_timer_check quiet",
		},
		"root on virtiofs": {
			Machine{Shares: root},
			"console=hvc0 panic=-1 reboot=t no_timer_check root=mica-root rootfstype=virtiofs rw init=/.sandbox/init",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := KernelCmdline(test.machine, "t"); got != test.want {
				t.Errorf("KernelCmdline = %q, want %q", got, test.want)
			}
		})
	}
}
