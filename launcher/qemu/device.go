package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/micavm/mica/guest-init/wire"
	"github.com/micavm/mica/launcher/vmm"
)

// A device is one part of the machine. It gives its own arguments, and passes the files that they name.
type device interface {
	arguments(*descriptors) []string
}

type devices []device

func (ds devices) arguments() (arguments []string, files []*os.File) {
	var passed descriptors
	for _, d := range ds {
		arguments = append(arguments, d.arguments(&passed)...)
	}
	return arguments, passed.files
}

// descriptors are the files that the child inherits.
type descriptors struct{ files []*os.File }

// pass gives the number that f has in the child: the first after standard input, output and error is 3.
func (d *descriptors) pass(f *os.File) int {
	d.files = append(d.files, f)
	return 2 + len(d.files)
}

// value makes s fit for an option's value, where a comma ends it unless doubled.
func value(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// base leaves out everything that a QEMU adds on its own: its configuration files, a display, a network card, a monitor.
type base struct{ name string }

func (b base) arguments(*descriptors) []string {
	return []string{"-name", "guest=" + value(b.name), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"}
}

type microvm struct {
	accelerator Accelerator
	cpus        int
}

func (m microvm) arguments(*descriptors) []string {
	accelerator, cpu := "kvm", "host"
	if m.accelerator == TCG {
		accelerator, cpu = "tcg,thread=multi", "max"
	}
	return []string{
		// Devices are on the kernel's command line: a guest's kernel needs neither ACPI nor PCI.
		"-machine", "microvm,acpi=off,rtc=on,isa-serial=off,memory-backend=memory",
		"-accel", accelerator, "-cpu", cpu, "-smp", strconv.Itoa(m.cpus),
		// vhost-user devices exist in the form of virtio 1 only.
		"-global", "virtio-mmio.force-legacy=false",
	}
}

// memory is shared, for vhost-user backends serve requests out of it.
type memory struct{ mebibytes int }

func (m memory) arguments(*descriptors) []string {
	size := strconv.Itoa(m.mebibytes) + "M"
	return []string{"-m", size, "-object", "memory-backend-memfd,id=memory,share=on,size=" + size}
}

type kernel struct{ image, initrd, cmdline string }

func (k kernel) arguments(*descriptors) []string {
	arguments := []string{"-kernel", k.image}
	if k.initrd != "" {
		arguments = append(arguments, "-initrd", k.initrd)
	}
	return append(arguments, "-append", k.cmdline)
}

// virtioSerial is the bus of console and namedPort.
type virtioSerial struct{}

func (virtioSerial) arguments(*descriptors) []string {
	return []string{"-device", "virtio-serial-device"}
}

// console is the guest's hvc0.
type console struct{ socket *os.File }

func (c console) arguments(passed *descriptors) []string {
	return []string{
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", passed.pass(c.socket)),
		"-device", "virtconsole,chardev=console",
	}
}

// namedPort is the control port, which the guest finds by its name.
type namedPort struct{ socket *os.File }

func (p namedPort) arguments(passed *descriptors) []string {
	return []string{
		"-chardev", fmt.Sprintf("socket,id=control,fd=%d", passed.pass(p.socket)),
		"-device", "virtserialport,chardev=control,name=" + wire.PortControl,
	}
}

// randomness comes from QEMU's own source: it opens no file.
type randomness struct{}

func (randomness) arguments(*descriptors) []string {
	return []string{"-object", "rng-builtin,id=random", "-device", "virtio-rng-device,rng=random"}
}

type virtiofs struct {
	index int
	share vmm.Share
}

// queueSize is the most that virtio-mmio takes. The guest's FUSE client needs more than the default of 128 for requests of 1 MiB.
const queueSize = 1024

func (v virtiofs) arguments(*descriptors) []string {
	return []string{
		"-chardev", fmt.Sprintf("socket,id=fs%d,path=%s", v.index, value(v.share.Socket)),
		"-device", fmt.Sprintf("vhost-user-fs-device,chardev=fs%d,tag=%s,queue-size=%d,num-request-queues=%d",
			v.index, value(v.share.Tag), queueSize, max(1, v.share.Queues)),
	}
}

// sandbox forbids the system calls that a QEMU needs only for what this machine does not have.
type sandbox struct{}

func (sandbox) arguments(*descriptors) []string {
	return []string{"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"}
}
