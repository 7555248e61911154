package main

import (
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// openFiles is what systemd gives a service; the kernel's own default, 4096 at most, is too little for builds.
var openFiles = wire.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: 1024, Hard: 524288}

// withLimits calls f under limits, and then has those of before again: a child keeps what there was when it was started.
func withLimits(limits []wire.Rlimit, f func() error) error {
	var old unix.Rlimit
	if unix.Prlimit(0, openFiles.Resource, &unix.Rlimit{Cur: openFiles.Soft, Max: openFiles.Hard}, &old) == nil {
		defer unix.Prlimit(0, openFiles.Resource, &old, nil)
	}
	for _, l := range limits {
		var old unix.Rlimit
		if err := unix.Prlimit(0, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, &old); err != nil {
			return failf(statusFailed, "set resource limit %d to %d:%d: %v", l.Resource, l.Soft, l.Hard, err)
		}
		defer unix.Prlimit(0, l.Resource, &old, nil)
	}
	return f()
}
