package launcher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

const mountInfo = "/proc/self/mountinfo"

// A UserMount is the root of a sandbox that does not run, on a folder of the host.
type UserMount struct {
	dir     string
	root    *fusefs.FS
	home    *Home // nil when there is no upper
	mounted *fusefs.Mounted
	janitor *janitor
}

// MountIdle mounts the root of p on dir. Writable says that changes go to the sandbox's upper; an image without a sandbox cannot be
// written to. What the mount shows is what the guest would have. The sandbox cannot run until the mount is gone, if it has an upper.
// What its janitor has to say goes to warnings.
func MountIdle(p *Plan, dir string, writable bool, warnings *os.File) (*UserMount, error) {
	if writable && p.Upper == "" {
		return nil, errors.New("--rw is for a sandbox of mica.toml that is not read_only: nothing else has a place for changes")
	}
	if abs, err := filepath.Abs(dir); err == nil {
		if err := unmountDead(abs); err != nil {
			return nil, err
		}
	}
	dir, err := mountPoint(dir)
	if err != nil {
		return nil, err
	}
	m := &UserMount{dir: dir}
	if err := m.open(p, writable); err != nil {
		m.release()
		return nil, err
	}
	if err := m.mount(p, writable, warnings); err != nil {
		return nil, errors.Join(err, m.release())
	}
	return m, nil
}

// open composes the root. A sandbox that has never run has no upper, and looking at it makes none.
func (m *UserMount) open(p *Plan, writable bool) (err error) {
	var upper *fusefs.Upper
	if _, missing := os.Stat(filepath.Join(p.Upper, "upper")); p.Upper != "" && (writable || missing == nil) {
		if m.home, err = OpenHome(p); err != nil {
			return err
		}
		upper = m.home.Upper
	}
	m.root, err = Compose(p, upper)
	return err
}

func (m *UserMount) mount(p *Plan, writable bool, warnings *os.File) (err error) {
	if m.janitor, err = startJanitor(warnings, nil); err != nil {
		return err
	}
	if err := m.janitor.tell(order{Unmount: m.dir}); err != nil {
		return err
	}
	m.mounted, err = fusefs.Mount(m.root, m.dir, fusefs.MountOptions{
		ReadOnly:           !writable,
		AllowOther:         mayAllowOther(),
		DefaultPermissions: true,
		Debug:              p.Debug,
		Source:             fmt.Sprintf("mica:%s:%d", p.Name, os.Getpid()), // for Unmount to wait for
	})
	if missing := withoutFUSE(err); missing != nil {
		return missing
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", p.Name, m.dir, err)
	}
	return nil
}

// Serve serves the mount until somebody unmounts it, or until ctx ends, which unmounts it.
func (m *UserMount) Serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- m.mounted.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		if err = m.mounted.Unmount(); err != nil {
			err = unmount(m.dir) // in use: it goes when nobody uses it any more
		}
	}
	return errors.Join(err, m.release())
}

// release gives back all but the mount itself.
func (m *UserMount) release() error {
	var errs []error
	if m.root != nil {
		errs = append(errs, m.root.Close())
	}
	if m.home != nil {
		m.home.Close()
	}
	if m.janitor != nil {
		errs = append(errs, m.janitor.finish())
	}
	return errors.Join(errs...)
}

// Unmount ends a mount of mica's. Lazy detaches one that is in use.
func Unmount(dir string, lazy bool) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil { // a dead mount does not answer
		abs = real
	}
	source, err := sourceOf(abs)
	if err != nil {
		return err
	}
	if source == "" {
		return fmt.Errorf("nothing of mica's is mounted on %s", dir)
	}
	if lazy {
		return unmount(abs)
	}
	if err := unmountIdle(abs, dir); err != nil {
		return err
	}
	waitForServer(source)
	return nil
}

// unmountIdle unmounts what nobody uses. The user calls it dir.
func unmountIdle(abs, dir string) error {
	err := unix.Unmount(abs, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		return unmountAsUser(abs)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is in use: end what uses it, or give --lazy", dir)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

func unmountAsUser(dir string) error {
	program, err := fuserMount()
	if err != nil {
		return err
	}
	if said, err := exec.Command(program, "-u", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %s: end what uses it, or give --lazy", dir, strings.TrimSpace(string(said)))
	}
	return nil
}

// waitForServer waits for the process that served the mount, if it served nothing else: it gives up its sandbox's lock on its way out, so
// that a run may follow an unmount at once.
func waitForServer(source string) {
	pid, err := strconv.Atoi(source[strings.LastIndexByte(source, ':')+1:])
	if err != nil {
		return // it is a run, which goes on
	}
	server, err := findProcess(pid)
	if err != nil || !isMica(pid) {
		return
	}
	for deadline := time.Now().Add(cleanUpWait); server.alive() && time.Now().Before(deadline); {
		time.Sleep(cleanUpPoll)
	}
}

// isMica says whether a process runs this very program: in another PID namespace a number means something else.
func isMica(pid int) bool {
	own, err := os.Stat(selfPath)
	if err != nil {
		return false
	}
	other, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && os.SameFile(own, other)
}

// sourceOf gives the source of mica's mount on path, or "". The form of mountinfo is of proc(5).
func sourceOf(path string) (string, error) {
	mounts, err := os.Open(mountInfo)
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	return findSource(mounts, path), nil
}

// unescape reads a path of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mountedBelow gives a folder at path or below it that something is mounted on, or "".
func mountedBelow(path string) (string, error) {
	mounts, err := os.Open(mountInfo)
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if at := unescape.Replace(fields[4]); at == path || strings.HasPrefix(at, path+"/") {
			return at, nil
		}
	}
	return "", lines.Err()
}

func findSource(mountinfo io.Reader, path string) string {
	source := ""
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, device := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(device) < 2 || unescape.Replace(mount[4]) != path {
			continue
		}
		if source = ""; device[0] == fuseType { // the last one on a folder is the one that is seen
			source = unescape.Replace(device[1])
		}
	}
	return source
}

// AllowOther says whether a mount of this user may be seen by others.
func AllowOther() bool { return mayAllowOther() }

// WaitUnmounted waits until nothing of mica's is mounted on dir any more. When ctx ends before, it unmounts it.
func WaitUnmounted(ctx context.Context, dir string) error {
	dir, err := mountPoint(dir)
	if err != nil {
		return err
	}
	for mounted := true; mounted; {
		if ctx.Err() != nil {
			return unmount(dir)
		}
		if mounted, err = waitMounts(dir, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// waitMounts says whether dir is mounted; if so, it returns at the next change of mounts, or after limit.
func waitMounts(dir string, limit time.Duration) (bool, error) {
	mounts, err := os.Open(mountInfo)
	if err != nil {
		return false, err
	}
	defer mounts.Close()
	if findSource(mounts, dir) == "" {
		return false, nil
	}
	// proc(5): a change of the mounts is an exceptional condition of the open file.
	changes := []unix.PollFd{{Fd: int32(mounts.Fd()), Events: unix.POLLPRI}}
	if _, err := unix.Poll(changes, int(limit.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return true, fmt.Errorf("wait for unmount: %w", err)
	}
	return true, nil
}
