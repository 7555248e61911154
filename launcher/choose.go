package launcher

import (
	"fmt"
	"slices"

	"github.com/micavm/mica/launcher/krun"
	"github.com/micavm/mica/launcher/qemu"
	"github.com/micavm/mica/launcher/vmm"
)

// The virtual machine monitors and transports, as the user calls them.
const (
	auto = "auto"

	vmmKrun = "krun"
	vmmQEMU = "qemu"

	transportVhostUser = "vhost-user"
	transportVirtiofsd = "virtiofsd"
	transportKrun      = "krun"
)

// transports are those that each monitor takes, what auto stands for first.
var transports = map[string][]string{
	vmmQEMU: {transportVhostUser, transportVirtiofsd},
	vmmKrun: {transportKrun},
}

// chooseVMM resolves what was asked for. say takes a line about what the user would not expect.
func chooseVMM(p *Plan, say func(string)) (monitor vmm.VMM, transport string, err error) {
	name := p.VMM
	if name == "" || name == auto {
		name = autoVMM(p.Transport)
	}
	transport, err = chooseTransport(p.Transport, name)
	if err != nil {
		return nil, "", err
	}
	monitor, err = openVMM(name, say)
	return monitor, transport, err
}

// autoVMM is libkrun where it is and the processor can run it, QEMU elsewhere; a transport that only one of them has decides.
func autoVMM(transport string) string {
	switch {
	case transport == transportKrun:
		return vmmKrun
	case slices.Contains(transports[vmmQEMU], transport):
		return vmmQEMU
	case vmm.CheckKVM() == nil && haveKrun():
		return vmmKrun
	}
	return vmmQEMU
}

func chooseTransport(asked, name string) (string, error) {
	takes, ok := transports[name]
	switch {
	case !ok:
		return "", fmt.Errorf("no vmm %q: use auto, krun or qemu", name)
	case asked == "" || asked == auto:
		return takes[0], nil
	case slices.Contains(takes, asked):
		return asked, nil
	}
	use := takes[0]
	for _, t := range takes[1:] {
		use += " or " + t
	}
	return "", &hinted{ErrTransport, fmt.Sprintf("transport %s does not work with vmm %s: use %s", asked, name, use)}
}

func haveKrun() bool {
	_, err := krun.New()
	return err == nil
}

func openVMM(name string, say func(string)) (vmm.VMM, error) {
	noKVM := vmm.CheckKVM()
	if name == vmmKrun {
		monitor, err := krun.New()
		if err == nil {
			err = noKVM
		}
		if err != nil {
			return nil, &hinted{ErrNoVMM, fmt.Sprintf("vmm krun cannot run here: %v: use --vmm qemu", err)}
		}
		return monitor, nil
	}
	monitor, err := qemu.New()
	if err != nil {
		return nil, &hinted{ErrNoVMM, fmt.Sprintf("no virtual machine monitor: %v: install QEMU (qemu-system-x86), or libkrun and KVM", err)}
	}
	if noKVM != nil {
		say(fmt.Sprintf("no KVM (%v): the guest is emulated, which is slow", noKVM))
	}
	return monitor, nil
}
