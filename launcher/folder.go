package launcher

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// errLocked says that another process has the folder.
var errLocked = errors.New("locked by another process")

// A lockedFolder is a private folder that one process has for itself.
type lockedFolder struct {
	Path string
	lock *os.File // the folder itself: no file for the lock has to be left behind
}

// lockFolder makes the folder when it is absent and locks it. The error is errLocked when somebody else has it.
func lockFolder(path string) (*lockedFolder, error) {
	for {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		f, err := lockExisting(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last owner removed it between two of our steps
		}
		return f, err
	}
}

// lockExisting locks the folder. The error is fs.ErrNotExist when it is not there (any more).
func lockExisting(path string) (*lockedFolder, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, fs.ErrNotExist)
	}
	return &lockedFolder{Path: path, lock: f}, nil
}

// empty removes what an earlier owner left in the folder.
func (f *lockedFolder) empty() error {
	names, err := os.ReadDir(f.Path)
	if err != nil {
		return err
	}
	for _, entry := range names {
		if err := removeTree(filepath.Join(f.Path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the folder and gives up the lock.
func (f *lockedFolder) remove() error {
	defer f.release()
	return removeTree(f.Path)
}

func (f *lockedFolder) release() { f.lock.Close() }

// removeTree removes path and all beneath it, whatever its modes are and however deep it is, but never what is mounted there.
func removeTree(path string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mounted, err := mountedBelow(filepath.Join(parent, filepath.Base(path)))
	if err != nil {
		return err
	}
	if mounted != "" {
		return fmt.Errorf("remove %s: something is mounted on %s", path, mounted)
	}
	return fusefs.RemoveTree(path)
}

// runtimeDir is the folder of the run folders: private to the user, and gone at the next boot.
func runtimeDir() (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mica"), nil
	}
	if dir := fmt.Sprintf("/run/user/%d", os.Getuid()); ownedPrivately(dir) == nil {
		return filepath.Join(dir, "mica"), nil
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("mica-%d", os.Getuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := ownedPrivately(dir); err != nil {
		return "", fmt.Errorf("%w: set XDG_RUNTIME_DIR to a private folder", err)
	}
	return dir, nil
}

// ownedPrivately checks that nobody else made dir or can write to it.
func ownedPrivately(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a private folder of user %d", dir, os.Getuid())
	}
	return nil
}

// cacheDir is mica's folder for what can be made again.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(dir, "mica"), nil
}

// runName is the name of a sandbox's run folder: two projects may each have a sandbox of one name.
func runName(name, project string) string {
	sum := sha256.Sum256([]byte(project + "\x00" + name))
	return fmt.Sprintf("%.24s-%s", name, hex.EncodeToString(sum[:4]))
}

const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// socketPath is the path of a socket in dir, checked for what the kernel takes.
func socketPath(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket %s: its path has %d bytes, at most %d: set XDG_RUNTIME_DIR to a shorter folder", path, len(path), maxSocketPath)
	}
	return path, nil
}

// dataDir is mica's folder for images, layers and kernels.
func dataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mica"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find data folder: %w", err)
	}
	return filepath.Join(home, ".local", "share", "mica"), nil
}
