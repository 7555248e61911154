package launcher

import (
	"errors"
	"fmt"
	"os"
)

// A Guard is a child of this process that outlives it: it unmounts a mount of this process's that nobody serves any more.
type Guard struct {
	janitor *janitor
}

// StartGuard starts the guard of a FUSE mount that is about to be made on dir, an absolute path. It holds none of this process's streams.
func StartGuard(dir string) (*Guard, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("guard %s: %w", dir, err)
	}
	defer null.Close()
	j, err := startJanitor(null, nil)
	if err != nil {
		return nil, err
	}
	if err := j.tell(order{Unmount: dir}); err != nil {
		return nil, errors.Join(err, j.finish())
	}
	return &Guard{j}, nil
}

// Finish ends the guard, which leaves a mount that is served.
func (g *Guard) Finish() error { return g.janitor.finish() }
