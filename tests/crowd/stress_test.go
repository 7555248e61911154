package crowd

import (
	"testing"

	"github.com/micavm/mica/tests/testenv"
)

// TestStressNG runs stress-ng's checks of its own: some of its stressors, or in a soak its whole class of filesystem stressors.
func TestStressNG(t *testing.T) {
	testenv.Root(t)
	m, _ := mountMica(t)
	args := []string{"--temp-path", m.Dir(), "--verify", "--timeout"}
	if testenv.Soak() {
		// The excluded ones do not use the folder, but devices and mounts of the machine's own.
		args = append(args, "3s", "--class", "filesystem", "--sequential", "2", "--exclude", "bind-mount,binderfs,ioprio,procfs")
	} else {
		args = append(args, "4s", "--dentry", "1", "--rename", "1", "--link", "1", "--symlink", "1", "--fallocate", "1", "--fpunch", "1",
			"--xattr", "1", "--getdent", "1", "--utime", "1", "--copy-file", "1")
	}
	testenv.Run(t, testenv.Tool(t, "stress-ng"), args...)
	checkRemount(t, m)
}
