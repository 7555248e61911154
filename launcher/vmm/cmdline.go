package vmm

import (
	"strings"

	"github.com/micavm/mica/guest-init/wire"
)

// KernelCmdline is the kernel's whole command line for m, devices aside. reboot is the value of reboot= that
// makes the monitor see the guest's power-off: it differs from one monitor to the other.
//
// no_timer_check is what a KVM guest sets by itself: on a busy host an emulated timer can miss the ticks that the kernel waits for at its
// start, and the kernel then panics before it has a console.
//
// Without an initramfs the kernel itself mounts the first share as its root and starts guest-init out of it.
func KernelCmdline(m Machine, reboot string) string {
	words := []string{"console=hvc0", "panic=-1", "reboot=" + reboot, "no_timer_check"}
	if m.Initrd == "" && len(m.Shares) > 0 {
		words = append(words, "root="+m.Shares[0].Tag, "rootfstype=virtiofs", "rw", "init="+wire.InitPath)
	}
	if m.Cmdline != "" {
		words = append(words, m.Cmdline)
	}
	return strings.Join(words, " ")
}
