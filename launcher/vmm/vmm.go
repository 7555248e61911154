// Package vmm holds what a virtual machine monitor is asked for, and the interface its drivers meet.
package vmm

import (
	"context"
	"os"
)

// A Machine is one microVM, ready to start: no field is a wish, everything in it exists.
type Machine struct {
	Name      string // of the sandbox, for messages
	CPUs      int
	MemoryMiB int

	Kernel  string // an uncompressed ELF with a PVH entry note
	Initrd  string // an uncompressed cpio archive, or "" for a kernel without initramfs support
	Cmdline string // what the caller adds to the kernel's command line, such as quiet; KernelCmdline completes it

	Shares []Share // the root first

	Control *os.File // one end of a stream socketpair: the port named wire.PortControl. The host keeps the other end
	Console *os.File // one end of another: takes the guest's console, hvc0. The host reads the other end to its end, or the guest stalls

	Dir string   // a private folder for the driver's own sockets and files; it exists
	Log *os.File // where the monitor's own words go
}

// A Share is one virtiofs device.
type Share struct {
	Tag    string
	Socket string // of a vhost-user-fs backend (QEMU)
	Queues int    // request queues of that backend; 0 is 1
	Folder string // to be served by the monitor's own virtiofs server (libkrun)
}

// A VMM starts machines.
type VMM interface {
	// Name is what the user calls it: krun or qemu.
	Name() string
	// Command is the child that runs m. It is not started: the supervisor adds its own process attributes.
	Command(ctx context.Context, m Machine) (*Command, error)
}

// A Command is a child process as a driver wants it.
type Command struct {
	Path  string
	Args  []string   // Args[0] included
	Env   []string   // nil is the supervisor's own
	Files []*os.File // descriptors 3, 4, …
	Stdin []byte     // written to its standard input, which is then closed
}
