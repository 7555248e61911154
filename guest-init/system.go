package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A system is what guest-init changes of the machine as a whole. Tests have one that only notes what was asked.
type system interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	FilesystemType(path string) (int64, error) // a magic number of statfs(2)
	SetReadAhead(path string, kib int) error   // of the filesystem there
	IsDir(path string) bool
	MkdirAll(path string) error
	Symlink(target, link string) error
	Chdir(path string) error
	Chroot(path string) error
	SetHostname(name string) error
	LinkUp(name string) error
	KillAll(signal unix.Signal) // every process but this one
	Sync()
	Reboot() // returns only when it failed
}

// linux is the real system.
type linux struct{}

func (linux) Mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

func (linux) Unmount(target string) error { return unix.Unmount(target, 0) }

func (linux) FilesystemType(path string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return int64(st.Type), err
}

func (linux) SetReadAhead(path string, kib int) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	file := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	return os.WriteFile(file, fmt.Append(nil, kib), 0)
}

func (linux) IsDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (linux) MkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

func (linux) Symlink(target, link string) error {
	err := os.Symlink(target, link)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func (linux) Chdir(path string) error       { return unix.Chdir(path) }
func (linux) Chroot(path string) error      { return unix.Chroot(path) }
func (linux) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

func (linux) LinkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

func (linux) KillAll(signal unix.Signal) { unix.Kill(-1, signal) }
func (linux) Sync()                      { unix.Sync() }
func (linux) Reboot()                    { unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }
