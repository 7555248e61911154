package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// A fuseMount says how a FUSE file system is mounted, whoever serves it.
type fuseMount struct {
	Dir        string `json:"dir"`
	Source     string `json:"source"`
	ReadOnly   bool   `json:"read_only,omitempty"`
	AllowOther bool   `json:"allow_other,omitempty"`
	// DefaultPermissions lets the host's kernel check modes; a guest's kernel does that itself.
	DefaultPermissions bool `json:"default_permissions,omitempty"`
}

const fuseType = "fuse.mica"

// mountDevice mounts on m.Dir as this user can, and gives the /dev/fuse descriptor to be served.
func mountDevice(m fuseMount) (*os.File, error) {
	dev, err := fusefs.MountDevice(m.Dir, fusefs.MountOptions{
		ReadOnly: m.ReadOnly, AllowOther: m.AllowOther, DefaultPermissions: m.DefaultPermissions, Source: m.Source,
	})
	if missing := withoutFUSE(err); missing != nil {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("mount FUSE on %s: %w", m.Dir, err)
	}
	return dev, nil
}

// withoutFUSE gives the words for a mount that failed because there is no FUSE, or nil.
func withoutFUSE(err error) error {
	var open *fs.PathError
	switch {
	case errors.As(err, &open) && open.Path == "/dev/fuse":
		return noFUSE(open)
	case errors.Is(err, exec.ErrNotFound):
		return noFuserMount()
	}
	return nil
}

func noFUSE(err error) error {
	hint := "load it with modprobe fuse"
	if errors.Is(err, fs.ErrPermission) {
		hint = "give this user access to the device"
	}
	return &hinted{ErrNoFUSE, fmt.Sprintf("no FUSE: %v: %s", err, hint)}
}

func fuserMount() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", noFuserMount()
}

func noFuserMount() error {
	return &hinted{ErrNoFUSE, "no FUSE: fusermount3 is not in PATH: install fuse3"}
}

// unmountDead unmounts path if a FUSE file system of mica's is there whose server has ended. It asks by statfs(2), which always reaches the
// server: the kernel answers stat(2) out of its cache long after the server's end.
func unmountDead(path string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		return nil
	}
	return unmount(path)
}

// unmount detaches the FUSE file system on path, in use or not.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.EPERM) {
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	program, err := fuserMount()
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if said, err := exec.Command(program, "-u", "-z", "--", path).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %s: %w", path, strings.TrimSpace(string(said)), err)
	}
	return nil
}

// mountPoint is dir as an absolute path without links, checked to be a folder.
func mountPoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w: make the folder first", dir, err)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return "", fmt.Errorf("mount point %s is not a folder: name one that is", dir)
	}
	return abs, nil
}

// mayAllowOther says whether others than the user may be let into a mount: root always may, an ordinary user where /etc/fuse.conf says so.
func mayAllowOther() bool {
	if os.Geteuid() == 0 {
		return true
	}
	text, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}
