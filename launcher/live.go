package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/launcher/spec"
)

// livePoll is how often mica.toml is looked at: with the guest's cache of a second at most, an edit shows soon after it is saved.
const livePoll = 200 * time.Millisecond

// A fileVersion tells one version of a file from the next, an editor's rename included.
type fileVersion struct {
	inode    uint64
	size     int64
	modified time.Time
}

func versionOf(info os.FileInfo) fileVersion {
	return fileVersion{info.Sys().(*syscall.Stat_t).Ino, info.Size(), info.ModTime()}
}

// A configVersion is what mica.toml is after an edit. The janitor reads it, because rules of Landlock are for files and not for names, and an
// editor puts a new file in the old one's place: the supervisor could read all of the project, or no edit.
type configVersion struct {
	Text  []byte `json:"text,omitempty"`
	Error string `json:"error,omitempty"` // why it cannot be read
}

// followConfig writes each version of the configuration to w, until that fails. The first look counts as an edit: there may have been one
// since the plan was made.
func followConfig(path string, w io.Writer) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	versions := json.NewEncoder(w)
	var seen fileVersion
	for ; ; time.Sleep(livePoll) {
		text, version, err := readVersion(path, seen)
		if version == seen {
			continue // an editor may be between removing and renaming
		}
		seen = version
		v := configVersion{Text: text}
		if err != nil {
			v.Error = err.Error()
		}
		if versions.Encode(v) != nil {
			return
		}
	}
}

// readVersion reads the file at path, unless it is the one that was seen. Who can write to the folder, which may be a volume of the guest's,
// must not have other files read: links are not followed.
func readVersion(path string, seen fileVersion) ([]byte, fileVersion, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err != nil {
		return nil, seen, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || versionOf(info) == seen {
		return nil, seen, err
	}
	text, err := spec.Read(f)
	return text, versionOf(info), err
}

// follow keeps the synthetic layer of root what mica.toml says, in the versions that are read from it, until ctx ends. An edit that is not
// valid is told to log, and changes nothing.
func follow(ctx context.Context, p *Plan, root *fusefs.FS, from io.ReadCloser, log io.Writer) {
	defer context.AfterFunc(ctx, func() { from.Close() })()
	for versions := json.NewDecoder(from); ; {
		var v configVersion
		if versions.Decode(&v) != nil {
			return
		}
		if err := reload(p, root, v); err != nil {
			fmt.Fprintf(log, "mica: %v: the sandbox goes on with what it had\n", err)
		}
	}
}

func reload(p *Plan, root *fusefs.FS, v configVersion) error {
	if v.Error != "" {
		return errors.New(v.Error)
	}
	next, err := p.Reload(v.Text)
	if err != nil {
		return err
	}
	return refresh(root, next)
}
