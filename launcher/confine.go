package launcher

import (
	"os"
	"path/filepath"

	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// programRules are what a monitor or virtiofsd needs to start: programs, libraries, what the kernel tells. Nothing of it is the user's own.
func programRules(more ...string) landlock.Rules {
	rules := landlock.Rules{
		Read: []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix/store", "/etc/ld.so.cache", "/etc/ld.so.preload",
			"/etc/alternatives", "/proc", "/sys", "/dev/urandom", "/dev/random"},
		Write: []string{"/dev/null", "/dev/zero"},
	}
	if self, err := os.Executable(); err == nil {
		rules.Read = append(rules.Read, self)
	}
	for _, dir := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(dir) {
			rules.Read = append(rules.Read, dir)
		}
	}
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
