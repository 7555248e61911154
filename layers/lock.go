package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A lock is a file that one process, or one goroutine, has for itself until it closes it. The file stays.
type lock struct{ file *os.File }

const lockPoll = 20 * time.Millisecond

// acquire waits for the lock file at path, as long as ctx lasts.
func acquire(ctx context.Context, path string) (*lock, error) {
	for {
		l, err := tryAcquire(path)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll): // a blocked flock(2) would not hear of ctx
		}
	}
}

// tryAcquire is nil when somebody else has the lock.
func tryAcquire(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &lock{f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

func (l *lock) release() { l.file.Close() }
