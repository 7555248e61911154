package launcher

import (
	"os"
	"path/filepath"

	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// ownRules are what this program needs to start: itself, though its file were replaced, and libraries.
func ownRules() landlock.Rules {
	rules := landlock.Rules{Read: []string{selfPath, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store",
		"/etc/ld.so.cache", "/etc/ld.so.preload"}}
	for _, dir := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(dir) {
			rules.Read = append(rules.Read, dir)
		}
	}
	return rules
}

// supervisorRules are what the second half of a run needs. Its children are not in its domain: they have rules of their own. It may signal them,
// and so others. Mounts are left to those children, to the janitor and to whoever asks for one.
func supervisorRules(p *prepared) landlock.Rules {
	rules := ownRules()
	rules.Signals = true
	rules.Read = append(rules.Read, "/proc/sys/fs", "/sys/kernel/mm/transparent_hugepage") // limits that go-fuse and the Go runtime ask for
	rules.Write = append(rules.Write, "/dev/null")
	for _, l := range p.Plan.Image.Layers {
		rules.Read = append(rules.Read, l.Dir)
		if l.Index != "" {
			rules.Read = append(rules.Read, l.Index)
		}
	}
	for _, v := range p.Plan.Volumes {
		if v.ReadOnly {
			rules.Read = append(rules.Read, v.Host)
		} else {
			rules.Write = append(rules.Write, v.Host)
		}
	}
	rules.Write = append(rules.Write, p.Home, p.Dir)
	return rules
}

// programRules are what a monitor or virtiofsd needs to start: programs, libraries, what the kernel tells. Nothing of it is the user's own.
func programRules(more ...string) landlock.Rules {
	rules := ownRules()
	rules.Read = append(rules.Read, "/usr", "/bin", "/sbin", "/opt", "/etc/alternatives", "/proc", "/sys", "/dev/urandom", "/dev/random")
	rules.Write = append(rules.Write, "/dev/null", "/dev/zero")
	for _, path := range more {
		if path != "" {
			rules.Read = append(rules.Read, path)
		}
	}
	return rules
}

// vmmRules are what the monitor of m, which is the program at path, needs.
func vmmRules(m vmm.Machine, monitor, path string) landlock.Rules {
	rules := programRules(path, m.Kernel, m.Initrd)
	if libkrun := os.Getenv("MICA_LIBKRUN"); libkrun != "" && monitor == "krun" {
		rules.Read = append(rules.Read, filepath.Dir(libkrun))
	}
	rules.Write = append(rules.Write, m.Dir, "/dev/kvm")
	return rules
}
