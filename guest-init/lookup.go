package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// getenv returns the last value of key, the one that most programs see.
func getenv(env []string, key string) (value string, ok bool) {
	for _, kv := range env {
		if k, v, found := strings.Cut(kv, "="); found && k == key {
			value, ok = v, true
		}
	}
	return value, ok
}

// lookCommand finds the file of a command: a name without slash in path, anything else relative to dir. It asks as the
// thread's user.
func lookCommand(name, dir, path string) (string, error) {
	if name == "" {
		return "", failf(statusNotFound, "no command given")
	}
	if strings.Contains(name, "/") {
		return name, checkExecutable(name, absolute(dir, name))
	}
	var found error // of a file that is there and cannot be executed
	for _, folder := range filepath.SplitList(path) {
		file := absolute(dir, filepath.Join(folder, name))
		err := checkExecutable(name, file)
		if err == nil {
			return file, nil
		}
		if f, ok := err.(*failure); ok && f.status == statusNotExecutable && found == nil {
			found = err
		}
	}
	if found != nil {
		return "", found
	}
	return "", failf(statusNotFound, "%s: command not found", name)
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func checkExecutable(name, file string) error {
	var st unix.Stat_t
	err := unix.Stat(file, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return failf(statusNotExecutable, "%s: is a directory", name)
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
	}
	switch err {
	case nil:
		return nil
	case unix.ENOENT, unix.ENOTDIR:
		return failf(statusNotFound, "%s: no such file or directory", name)
	}
	return failf(statusNotExecutable, "%s: %v", name, err)
}

// checkWorkdir asks as the thread's user.
func checkWorkdir(dir string) error {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	switch {
	case err == unix.ENOENT:
		return failf(statusFailed, "workdir %s: no such directory", dir)
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return failf(statusFailed, "workdir %s: not a directory", dir)
	case err == nil:
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS)
	}
	if err != nil {
		return failf(statusFailed, "workdir %s: %v", dir, err)
	}
	return nil
}

// as runs f with the rights of u on files. The thread that has them is never used again.
func as(u user, f func() error) error {
	if u.isRoot() {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		groups := u.allGroups()
		// The raw system call is of the thread alone, as setfsuid is.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
			result <- failf(statusFailed, "set groups of uid %d: %v", u.uid, errno)
			return
		}
		unix.Setfsgid(int(u.gid))
		unix.Setfsuid(int(u.uid))
		result <- f()
	}()
	return <-result
}

// execError says why execve of a file that is there and executable has failed.
func execError(name, file string, err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR:
		if i := interpreter(file); i != "" {
			return failf(statusNotFound, "%s: its interpreter %s is not in the guest", name, i)
		}
		return failf(statusNotFound, "%s: no such file or directory", name)
	case unix.EAGAIN, unix.ENOMEM, unix.EMFILE: // before it came to execve
		return failf(statusFailed, "start %s: %v", name, err)
	}
	return failf(statusNotExecutable, "%s: %v", name, err)
}

// interpreter returns what the kernel starts in place of file: the one of its #! line, or an ELF file's dynamic loader.
func interpreter(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	if line, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		if words := bytes.Fields(line); len(words) > 0 {
			return string(words[0])
		}
		return ""
	}
	return loader(head)
}

// loader reads PT_INTERP of a 64-bit little-endian ELF file (elf(5)) whose first bytes are head. Package debug/elf would
// make guest-init half as large again.
func loader(head []byte) string {
	const (
		headerSize, segmentSize = 64, 56
		typeInterp              = 3
	)
	le := binary.LittleEndian
	if len(head) < headerSize || !bytes.HasPrefix(head, []byte("\x7fELF\x02\x01")) {
		return ""
	}
	at, count := le.Uint64(head[32:]), uint64(le.Uint16(head[56:]))
	for i := range count {
		start := at + i*segmentSize
		if at > uint64(len(head)) || start+segmentSize > uint64(len(head)) {
			return ""
		}
		segment := head[start:]
		if le.Uint32(segment) != typeInterp {
			continue
		}
		offset, size := le.Uint64(segment[8:]), le.Uint64(segment[32:])
		if offset > uint64(len(head)) || size > uint64(len(head))-offset {
			return ""
		}
		return string(bytes.TrimRight(head[offset:offset+size], "\x00"))
	}
	return ""
}
