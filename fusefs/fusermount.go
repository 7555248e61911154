package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// fuserMount has fusermount3 mount on dir, as an ordinary user must, and gives the /dev/fuse descriptor that it opened.
func fuserMount(dir string, o MountOptions) (int, error) {
	program, err := findFuserMount()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket of fusermount3")
	options := append([]string{"nosuid", "nodev", "subtype=mica", "fsname=" + escapeOption(o.source()), fmt.Sprintf("max_read=%d", maxIO)},
		o.kernelOptions()...)
	if o.ReadOnly {
		options = append(options, "ro")
	}
	cmd := exec.Command(program, "-o", strings.Join(options, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3") // fuse_mount_fusermount in libfuse's lib/mount.c
	cmd.ExtraFiles = []*os.File{theirs}
	said, err := cmd.CombinedOutput()
	_ = theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("%s: %w", strings.TrimSpace(string(said)), err)
	}
	return receiveDescriptor(pair[0])
}

// escapeOption has fusermount3 take a value as it is.
func escapeOption(value string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(value)
}

func receiveDescriptor(socket int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("fusermount3 passed no descriptor")
}

func fuserUnmount(dir string) error {
	program, err := findFuserMount()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "-u", "--", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	said, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(said), "busy") {
		return unix.EBUSY
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(said)), err)
	}
	return nil
}

func findFuserMount() (string, error) {
	program, err := exec.LookPath("fusermount3")
	if err != nil {
		program, err = exec.LookPath("fusermount")
	}
	return program, err
}
