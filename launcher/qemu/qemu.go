package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/micavm/mica/launcher/vmm"
)

// ErrNoQEMU means that there is no QEMU for this machine's architecture.
var ErrNoQEMU = errors.New("no QEMU for a microvm")

// program emulates the architecture that the launcher runs on.
const program = "qemu-system-x86_64"

// An Accelerator is what runs the guest's instructions.
type Accelerator string

const (
	KVM Accelerator = "kvm"
	TCG Accelerator = "tcg" // QEMU's own emulation, some ten times slower
)

// A QEMU is a vmm.VMM.
type QEMU struct {
	Path        string // of the program
	Accelerator Accelerator
	Why         error // why the accelerator is TCG; nil with KVM
}

// New finds the program, and picks KVM where an ordinary guest runs on it and TCG elsewhere.
func New() (*QEMU, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("%w: QEMU's microvm machine is for amd64, and this is %s", ErrNoQEMU, runtime.GOARCH)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not in PATH", ErrNoQEMU, program)
	}
	q := &QEMU{Path: path, Accelerator: KVM}
	if why := vmm.CheckKVM(); why != nil {
		q.Accelerator, q.Why = TCG, why
	}
	return q, nil
}

// Name is qemu.
func (q *QEMU) Name() string { return "qemu" }

// Command is a QEMU that ends with status 0 when the guest powers off, and that nobody can talk to but the guest.
func (q *QEMU) Command(_ context.Context, m vmm.Machine) (*vmm.Command, error) {
	if len(m.Shares) > MaxShares {
		return nil, fmt.Errorf("qemu's microvm machine has room for %d shares, the root among them, and %s needs %d", MaxShares, m.Name, len(m.Shares))
	}
	arguments, files := q.machine(m).arguments()
	return &vmm.Command{
		Path:  q.Path,
		Args:  append([]string{q.Path}, arguments...),
		Files: files,
	}, nil
}

// MaxShares is how many shares a machine can have: the microvm machine has eight virtio-mmio slots, of which the consoles
// and the random number generator take one each.
const MaxShares = 6

// machine lists what m is made of. The order is that of the command line, which the guest sees as the order of the devices.
func (q *QEMU) machine(m vmm.Machine) devices {
	all := devices{
		base{name: m.Name},
		microvm{accelerator: q.Accelerator, cpus: m.CPUs},
		memory{mebibytes: m.MemoryMiB},
		kernel{image: m.Kernel, initrd: m.Initrd, cmdline: vmm.KernelCmdline(m, "t")},
		virtioSerial{},
		console{socket: m.Console},
		namedPort{socket: m.Control},
		randomness{},
	}
	for i, share := range m.Shares {
		all = append(all, virtiofs{index: i, share: share})
	}
	return append(all, sandbox{})
}
