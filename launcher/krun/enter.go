package krun

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// Values of libkrun.h.
const (
	logLevelError  = 1
	logStyleNever  = 2 // no colours
	logOptionNoEnv = 1 // RUST_LOG is not asked
	kernelELF      = 1 // KRUN_KERNEL_FORMAT_ELF
	noDescriptor   = -1
)

// Enter becomes the machine: it returns only when libkrun refuses it, and otherwise ends the process when the guest powers off. The caller has
// nothing left to do and no goroutine at work: libkrun installs signal handlers that must not meet a goroutine's small stack.
//
// libkrun has no way to give hvc0 to a descriptor that is not a terminal; it writes those lines to its log, each behind a
// time and the word init_or_kernel. So the log goes to the console's socket.
func Enter(c Config) error {
	runtime.LockOSThread()
	l, err := load(c.Library)
	if err != nil {
		return err
	}
	// The control port's descriptor is dup'ed by libkrun, and polled: only a socket or a pipe works.
	unix.CloseOnExec(consoleFD)
	unix.CloseOnExec(controlFD)
	if _, err := check("krun_init_log", l.initLog(consoleFD, logLevelError, logStyleNever, logOptionNoEnv)); err != nil {
		return err
	}
	ctx, err := check("krun_create_ctx", l.createCtx())
	if err != nil {
		return err
	}
	if err := configure(l, ctx, c); err != nil {
		return err
	}
	if _, err := check("krun_start_enter", l.startEnter(ctx)); err != nil {
		return err
	}
	return errors.New("krun_start_enter: returned though the guest ran")
}

func configure(l *library, ctx uint32, c Config) error {
	initrd, err := optionalString(c.Initrd)
	if err != nil {
		return err
	}
	steps := []struct {
		function string
		call     func() int32
	}{
		{"krun_set_vm_config", func() int32 { return l.setVMConfig(ctx, uint8(c.CPUs), uint32(c.MemoryMiB)) }},
		{"krun_disable_implicit_console", func() int32 { return l.disableImplicitConsole(ctx) }},
		// With vsock comes libkrun's own networking, which puts the guest into the host's network without a filter.
		{"krun_disable_implicit_vsock", func() int32 { return l.disableImplicitVsock(ctx) }},
		{"krun_add_virtio_console_default", func() int32 {
			return l.addConsoleDefault(ctx, noDescriptor, noDescriptor, noDescriptor)
		}},
		{"krun_set_kernel", func() int32 { return l.setKernel(ctx, c.Kernel, kernelELF, initrd, c.Cmdline) }},
	}
	for _, step := range steps {
		if _, err := check(step.function, step.call()); err != nil {
			return err
		}
	}
	console, err := check("krun_add_virtio_console_multiport", l.addConsoleMultiport(ctx))
	if err != nil {
		return err
	}
	if _, err := check("krun_add_console_port_inout", l.addConsolePort(ctx, console, wire.PortControl, controlFD, controlFD)); err != nil {
		return err
	}
	for _, share := range c.Shares {
		if _, err := check("krun_add_virtiofs "+share.Tag, l.addVirtiofs(ctx, share.Tag, share.Folder)); err != nil {
			return err
		}
	}
	return nil
}

// optionalString is a C string, or NULL for "".
func optionalString(s string) (*byte, error) {
	if s == "" {
		return nil, nil
	}
	return unix.BytePtrFromString(s)
}
