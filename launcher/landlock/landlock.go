package landlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the kernel has no Landlock, or that it is off.
var ErrUnsupported = errors.New("the kernel has no Landlock that does, as Linux has from 5.19: build it with CONFIG_SECURITY_LANDLOCK and name landlock in the lsm= boot parameter")

// Rules are what stays reachable: everything beneath each path. A path that does not exist is left out.
type Rules struct {
	Read  []string `json:"read,omitempty"`  // files and folders that may be read, and programs that may be executed
	Write []string `json:"write,omitempty"` // files and folders that may be read, written, made and removed; devices may be asked by ioctl

	Signals bool `json:"signals,omitempty"` // signals may leave the domain
}

const (
	readRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// fileRights are those of landlock_add_rule(2) that a rule about something other than a folder may name.
	fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// handledRights are the file-system rights that each version of the kernel's interface knows, from version 1.
var handledRights = []uint64{
	unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1,
	unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1,
	unix.LANDLOCK_ACCESS_FS_TRUNCATE<<1 - 1,
	unix.LANDLOCK_ACCESS_FS_TRUNCATE<<1 - 1,
	unix.LANDLOCK_ACCESS_FS_IOCTL_DEV<<1 - 1,
}

// scopesSince is the first version that keeps signals and abstract sockets within the domain.
const scopesSince = 6

// Version gives the kernel's Landlock version. ErrUnsupported is for none, and for version 1 too: under it nothing can be renamed from one folder to another.
func Version() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || v < 2 {
		return 0, ErrUnsupported
	}
	return int(v), nil
}

// Exec confines the process to rules and executes path in its place, with args (args[0] included) and env. It returns only an error. Where the
// kernel lacks Landlock, the program is executed unconfined: Version tells.
func Exec(rules Rules, path string, args, env []string) error {
	runtime.LockOSThread() // for good: a confined thread must not serve other goroutines
	if err := restrictThread(rules); err != nil && !errors.Is(err, ErrUnsupported) {
		return err
	}
	if err := syscall.Exec(path, args, env); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}

func restrictThread(rules Rules) error {
	version, err := Version()
	if err != nil {
		return err
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handledRights[min(version, len(handledRights))-1]}
	if version >= scopesSince {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		if !rules.Signals {
			attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	ruleset, err := createRuleset(&attr)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	for _, path := range rules.Read {
		if err := allow(ruleset, path, readRights&attr.Handled_access_fs); err != nil {
			return err
		}
	}
	for _, path := range rules.Write {
		if err := allow(ruleset, path, attr.Handled_access_fs&^unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("restrict by landlock: %w", errno)
	}
	return nil
}

// createRuleset passes only the fields that every kernel with scopes knows: an older one wants the rest to be zero, which it is.
func createRuleset(attr *unix.LandlockRulesetAttr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), unsafe.Offsetof(attr.Quiet_access_fs), 0)
	if errno != 0 {
		return -1, fmt.Errorf("create landlock ruleset: %w", errno)
	}
	return int(fd), nil
}

// allow adds rights beneath path to the ruleset.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
