package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// A Home is the folder of one sandbox, locked: its upper and its logs.
type Home struct {
	Dir   string
	Upper *fusefs.Upper // nil for a read-only sandbox

	lock *os.File
}

const originFile = "origin.json"

// An origin says which image an upper grew on: over another one it would make no sense.
type origin struct {
	Reference string `json:"reference"`
	Image     string `json:"image"` // the manifest's digest; the path of a folder
}

func originOf(image Image) origin {
	o := origin{Reference: image.Reference, Image: image.Digest}
	if o.Image == "" && len(image.Layers) > 0 {
		o.Image = image.Layers[len(image.Layers)-1].Dir
	}
	return o
}

// OpenHome locks the folder of a sandbox that mica.toml names, makes what is missing in it, and checks that the upper grew on the plan's
// image: it wraps ErrImage when not, unless the plan says to begin anew. It wraps ErrRunning when another process has it.
func OpenHome(p *Plan) (*Home, error) {
	dir := p.Upper
	if dir == "" {
		dir = filepath.Join(p.Project, ".mica", p.Name)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open sandbox %s: %w", p.Name, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sandbox %s: %w", p.Name, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &hinted{ErrRunning, fmt.Sprintf("sandbox %s is in use: end the run or the writable mount that has %s", p.Name, dir)}
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	h := &Home{Dir: dir, lock: lock}
	if p.Upper == "" {
		return h, nil
	}
	if err := h.prepare(p); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Close gives up the lock.
func (h *Home) Close() {
	if h.lock != nil {
		h.lock.Close()
	}
}

func (h *Home) prepare(p *Plan) error {
	if p.Reset {
		if err := h.reset(); err != nil {
			return fmt.Errorf("reset sandbox %s: %w", p.Name, err)
		}
	}
	if err := h.checkOrigin(p); err != nil {
		return err
	}
	return h.makeUpper(p.Disk)
}

func (h *Home) makeUpper(limit uint64) error {
	h.Upper = &fusefs.Upper{Dir: filepath.Join(h.Dir, "upper"), Work: filepath.Join(h.Dir, "work"), Limit: limit}
	for _, dir := range []string{h.Upper.Dir, h.Upper.Work} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make upper: %w", err)
		}
	}
	return nil
}

// reset removes the origin last: a reset that was interrupted is found to be one of the old image, and refused again.
func (h *Home) reset() error {
	for _, name := range []string{"upper", "work", originFile} {
		if err := removeTree(filepath.Join(h.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (h *Home) checkOrigin(p *Plan) error {
	path := filepath.Join(h.Dir, originFile)
	now := originOf(p.Image)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeOrigin(path, now)
	}
	if err != nil {
		return err
	}
	var grew origin
	if err := json.Unmarshal(text, &grew); err != nil {
		return fmt.Errorf("read %s: %w: run with --reset to begin anew", path, err)
	}
	if grew.Image == now.Image {
		return nil
	}
	return &hinted{ErrImage, fmt.Sprintf("image of sandbox %s has changed: its upper grew on %s (%s), the image is %s (%s) now: go back to that image, or lose what the sandbox wrote with --reset",
		p.Name, grew.Reference, grew.Image, now.Reference, now.Image)}
}

func writeOrigin(path string, o origin) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(next, path)
}

// throwAwayFolder says where the home of a throw-away sandbox is to be: on a disk where there is one, because what the guest writes would
// otherwise take the host's memory.
func throwAwayFolder(p *Plan) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	candidates := []string{cache, "/var/tmp/mica-" + fmt.Sprint(os.Getuid())}
	for _, dir := range candidates {
		if err := os.MkdirAll(dir, 0o700); err != nil || ownedPrivately(dir) != nil && dir != cache {
			continue
		}
		if !inMemory(dir) {
			return filepath.Join(dir, "run", runName(p.Name, p.Project)), nil
		}
	}
	return filepath.Join(cache, "run", runName(p.Name, p.Project)), nil
}

func inMemory(dir string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(dir, &stat) == nil && (stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC)
}

// openThrowAway makes the home of a throw-away sandbox, which is removed with its lock's folder. What runs that were killed
// together with their janitors left beside it is removed first.
func openThrowAway(p *Plan, dir string) (*Home, *lockedFolder, error) {
	siblings, _ := os.ReadDir(filepath.Dir(dir))
	for _, entry := range siblings {
		sweep(filepath.Join(filepath.Dir(dir), entry.Name()))
	}
	folder, err := lockFolder(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("make throw-away upper: %w", err)
	}
	h := &Home{Dir: dir}
	if p.ReadOnly {
		return h, folder, nil
	}
	if err := errors.Join(folder.empty(), h.makeUpper(p.Disk)); err != nil {
		folder.release()
		return nil, nil, err
	}
	return h, folder, nil
}
