package launcher

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/micavm/mica/fusefs"
)

// livePoll is how often mica.toml is looked at: with the guest's cache of a second at most, an edit shows soon after it is saved.
const livePoll = 200 * time.Millisecond

// A fileVersion tells one version of a file from the next, an editor's rename included.
type fileVersion struct {
	inode    uint64
	size     int64
	modified time.Time
}

func versionOf(path string) fileVersion {
	info, err := os.Stat(path)
	if err != nil {
		return fileVersion{}
	}
	return fileVersion{info.Sys().(*syscall.Stat_t).Ino, info.Size(), info.ModTime()}
}

// follow keeps the synthetic layer of root what mica.toml says, until ctx ends. An edit that is not valid is told to log, and changes nothing.
func follow(ctx context.Context, p *Plan, root *fusefs.FS, log io.Writer) {
	if p.Config == "" {
		return
	}
	var seen fileVersion // the first look counts as an edit: there may have been one since the plan was made
	ticker := time.NewTicker(livePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := versionOf(p.Config)
		if now == seen || now == (fileVersion{}) {
			continue // an editor may be between removing and renaming
		}
		seen = now
		if err := reload(p, root); err != nil {
			fmt.Fprintf(log, "mica: %v: the sandbox goes on with what it had\n", err)
		}
	}
}

func reload(p *Plan, root *fusefs.FS) error {
	next, err := p.Reload()
	if err != nil {
		return err
	}
	return refresh(root, next)
}
