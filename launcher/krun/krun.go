package krun

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/micavm/mica/launcher/vmm"
)

// ChildWord is the hidden command of this program that enters libkrun: its main decodes a Config from standard input and calls Enter.
const ChildWord = "__krun"

// Descriptors of the child. The supervisor may pass more after them.
const (
	consoleFD = 3
	controlFD = 4
)

// A Krun is a vmm.VMM.
type Krun struct {
	Library string // what was loaded: a path, or the name libkrun.so.1
}

// New loads libkrun, to know that it can be: $MICA_LIBKRUN, or else libkrun.so.1 where the dynamic loader finds it.
// It does not ask for KVM: vmm.CheckKVM does.
func New() (*Krun, error) {
	path := libraryPath()
	if _, err := load(path); err != nil {
		return nil, err
	}
	return &Krun{Library: path}, nil
}

// Name is krun.
func (k *Krun) Name() string { return "krun" }

// A Config is all that the child needs to enter a machine, as JSON on its standard input.
type Config struct {
	Library   string
	CPUs      int
	MemoryMiB int
	Kernel    string
	Initrd    string
	Cmdline   string // the whole one, devices aside
	Shares    []vmm.Share
}

// Command is this program again, as ChildWord. Its standard input is a Config; descriptor 3 is the console and 4 the control port.
func (k *Krun) Command(_ context.Context, m vmm.Machine) (*vmm.Command, error) {
	if m.CPUs > maxCPUs {
		return nil, fmt.Errorf("libkrun runs %d CPUs at most, and %s asks for %d", maxCPUs, m.Name, m.CPUs)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(Config{
		Library:   k.Library,
		CPUs:      m.CPUs,
		MemoryMiB: m.MemoryMiB,
		Kernel:    m.Kernel,
		Initrd:    m.Initrd,
		Cmdline:   vmm.KernelCmdline(m, "k"),
		Shares:    m.Shares,
	})
	if err != nil {
		return nil, err
	}
	return &vmm.Command{
		Path:  self,
		Args:  []string{"mica", ChildWord},
		Files: []*os.File{m.Console, m.Control},
		Stdin: config,
	}, nil
}

// maxCPUs is what fits the type of krun_set_vm_config's argument.
const maxCPUs = 255
