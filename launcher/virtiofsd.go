package launcher

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// A virtiofsd is one of the two programs of this name, which take different options.
type virtiofsd struct {
	path string
	rust bool
}

// findVirtiofsd looks for $MICA_VIRTIOFSD, then where distributions have the program.
func findVirtiofsd() (virtiofsd, error) {
	candidates := []string{"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"}
	if path := os.Getenv("MICA_VIRTIOFSD"); path != "" {
		candidates = []string{path}
	} else if path, err := exec.LookPath("virtiofsd"); err == nil {
		candidates = append([]string{path}, candidates...)
	}
	var failed error
	for _, path := range candidates {
		said, err := exec.Command(path, "--version").CombinedOutput()
		if err == nil {
			// Rust: "virtiofsd 1.13.0"; C: "virtiofsd version 7.2.0 …", "using FUSE kernel interface version …".
			return virtiofsd{path: path, rust: !strings.Contains(string(said), "virtiofsd version")}, nil
		}
		if failed == nil && !os.IsNotExist(err) {
			failed = fmt.Errorf("%s --version: %w: %s", path, err, strings.TrimSpace(string(said)))
		}
	}
	if failed != nil {
		return virtiofsd{}, &hinted{ErrTransport, fmt.Sprintf("transport virtiofsd: %v", failed)}
	}
	return virtiofsd{}, &hinted{ErrTransport, fmt.Sprintf("transport virtiofsd: no such program in %s: install virtiofsd, or use --transport vhost-user", strings.Join(candidates, ", "))}
}

// command serves dir to whoever connects to listener. Its cache lasts a second, not for ever: the synthetic layer changes while the guest runs.
func (v virtiofsd) command(dir string, listener *os.File) vmm.Command {
	c := vmm.Command{Path: v.path, Args: []string{"virtiofsd"}, Env: os.Environ(), Files: []*os.File{listener}}
	if v.rust {
		c.Args = append(c.Args, "--fd=3", "--shared-dir="+dir, "--cache=auto", "--xattr", "--sandbox=chroot", "--inode-file-handles=never")
	} else {
		// Its sandbox "namespace" would mount, which Landlock denies; the child has a mount namespace of its own already.
		c.Args = append(c.Args, "--fd=3", "-o", "source="+dir, "-o", "cache=auto", "-o", "xattr", "-o", "sandbox=chroot")
	}
	return c
}

// rules are what the program needs to serve dir. One in a folder that is not the system's may have its libraries near it.
func (v virtiofsd) rules(dir string) landlock.Rules {
	rules := programRules()
	if path, err := filepath.EvalSymlinks(v.path); err == nil {
		rules.Read = append(rules.Read, filepath.Dir(path))
	}
	rules.Write = append(rules.Write, dir)
	return rules
}
