package fusefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// MountOptions are a host mount's.
type MountOptions struct {
	ReadOnly           bool
	AllowOther         bool // other users may look in; an ordinary user needs user_allow_other in /etc/fuse.conf
	DefaultPermissions bool // the kernel checks owner and mode, and ACLs
	NoACL              bool // but for ACLs
	Guest              bool // a guest is behind the mount: see ConnectOptions
	Debug              bool
	Passthrough        bool   // see ConnectOptions
	Source             string // what /proc/mounts names, after "mica:"
	View               View
}

const maxIO = 1 << 20 // bytes of one read or write

// ServerOptions are the FUSE settings of the front end.
func (c *Connection) ServerOptions(debug bool) *fuse.MountOptions {
	o := &fuse.MountOptions{
		Name:                 "mica",
		MaxWrite:             maxIO,
		MaxBackground:        64,
		Debug:                debug,
		EnableSymlinkCaching: true,
		EnableAcl:            true, // which implies default_permissions
		PanicHandler:         panicked,
		// ATOMIC_O_TRUNC: no copy of what is about to be cut off. DONT_MASK: the umask matters where a default ACL does not.
		// HANDLE_KILLPRIV_V2: no getxattr before each write; the server drops setuid bits and capabilities.
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_DONT_MASK | fuse.CAP_HANDLE_KILLPRIV_V2 |
			fuse.CAP_SETXATTR_EXT | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_PARALLEL_DIROPS | fuse.CAP_ASYNC_DIO,
		// Unless the profile says otherwise, every open reaches the server, and no file is handed to the kernel.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT,
	}
	c.profile.tune(o)
	return o
}

// A Mounted is a front end that a kernel reaches by a /dev/fuse descriptor.
type Mounted struct {
	dir  string // "" when somebody else mounted it
	done chan struct{}
}

// Mount mounts the union on dir: by mount(2) as root, by fusermount3 otherwise.
func Mount(fs *FS, dir string, o MountOptions) (*Mounted, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	fd, err := mountDevice(dir, o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	m, err := serve(fs, fd, o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, errors.Join(err, unmount(dir)))
	}
	m.dir = dir
	refusePoll(dir)
	readFarAhead(dir)
	return m, nil
}

// MountDevice mounts dir as Mount does, and gives the /dev/fuse descriptor to be served, which no child inherits: whoever holds it answers as the
// filesystem. Where there is no FUSE, the error wraps an fs.PathError of /dev/fuse, or exec.ErrNotFound.
func MountDevice(dir string, o MountOptions) (*os.File, error) {
	fd, err := mountDevice(dir, o)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// ServeDevice serves a mount that somebody else has made with the /dev/fuse descriptor dev, which stays the caller's.
func ServeDevice(fs *FS, dev *os.File, o MountOptions) (*Mounted, error) {
	fd, err := unix.FcntlInt(dev.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		return serve(fs, fd, o)
	}
	return nil, fmt.Errorf("serve %s: %w", dev.Name(), err)
}

func mountDevice(dir string, o MountOptions) (int, error) {
	if os.Geteuid() != 0 {
		return fuserMount(dir, o)
	}
	return systemMount(dir, o)
}

// systemMount opens /dev/fuse so that no child inherits it, and mounts dir with it.
func systemMount(dir string, o MountOptions) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	options := append([]string{
		fmt.Sprintf("fd=%d", fd), "rootmode=40000",
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()), fmt.Sprintf("max_read=%d", maxIO),
	}, o.kernelOptions()...)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if o.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(o.source(), dir, "fuse.mica", flags, strings.Join(options, ",")); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (o MountOptions) source() string { return "mica:" + strings.TrimPrefix(o.Source, "mica:") }

func (o MountOptions) kernelOptions() []string {
	var options []string
	if o.DefaultPermissions {
		options = append(options, "default_permissions")
	}
	if o.AllowOther {
		options = append(options, "allow_other")
	}
	return options
}

// serve serves the /dev/fuse descriptor fd, which it takes over.
func serve(fs *FS, fd int, o MountOptions) (*Mounted, error) {
	d, err := fs.fds.wrap(fd, nil)
	if err != nil {
		return nil, err
	}
	c := fs.Connect(ConnectOptions{ReadOnly: o.ReadOnly, Guest: o.Guest, Passthrough: o.Passthrough, View: o.View})
	options := c.ServerOptions(o.Debug)
	options.EnableAcl = o.DefaultPermissions && !o.NoACL
	device := newDevice(d, c, options)
	c.device.Store(device)
	m := &Mounted{done: make(chan struct{})}
	go func() {
		device.serve()
		c.Close()
		close(m.done)
	}()
	return m, nil
}

// refusePoll has the kernel ask once whether files can be polled, which go-fuse denies for a name of its own, so that it
// does not ask again: Go asks for each file it opens, and would block a whole processor on an answer of its own process.
func refusePoll(dir string) {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

// readFarAhead has the kernel ask for as much of a file at once as it can: a request costs more than what it reads in vain.
// An ordinary user's mount keeps the kernel's 128 KiB.
func readFarAhead(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return
	}
	knob := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	_ = os.WriteFile(knob, strconv.AppendInt(nil, maxIO>>10, 10), 0)
}

// Wait returns when the mount is gone.
func (m *Mounted) Wait() error {
	<-m.done
	return nil
}

// Unmount unmounts, and waits for the server to end. A mount that is in use is tried for a second.
func (m *Mounted) Unmount() error {
	if m.dir == "" {
		return nil
	}
	var err error
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = unmount(m.dir); !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return m.Wait()
}

func unmount(dir string) error {
	if os.Geteuid() != 0 {
		return fuserUnmount(dir)
	}
	return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
}
