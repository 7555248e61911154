package launcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/fusefs/vhostuser"
)

// frontEnds are a guest's connections to its shares, over whichever transport.
type frontEnds struct {
	debug bool
	log   *boundedLog

	serving sync.WaitGroup
	failed  chan error // the first failure of one that serves
}

// serveVhostUser serves share i in this process, on its socket in dir.
func (f *frontEnds) serveVhostUser(ctx context.Context, dir string, i int, s share) error {
	l, _, err := listen(dir, i)
	if err != nil {
		return fmt.Errorf("serve %s: %w", s.mount.Path, err)
	}
	connection := s.fs.Connect(fusefs.ConnectOptions{ReadOnly: s.mount.ReadOnly, Guest: true})
	options := vhostuser.Options{Mount: connection.ServerOptions(f.debug), Queues: sharesQueues, Log: f.logf}
	f.serving.Go(func() {
		defer l.Close()
		defer connection.Close()
		if err := vhostuser.Serve(ctx, l, connection, options); err != nil && ctx.Err() == nil {
			f.fail(fmt.Errorf("serve %s: %w", s.mount.Path, err))
		}
	})
	return nil
}

// bringUp serves the mounts of a stage, and has it execute its program.
func (f *frontEnds) bringUp(st *stage, shares []share) error {
	for i, m := range st.Mounts {
		if err := f.serveMount(st, m, shares[st.First+i]); err != nil {
			st.abandon()
			return err
		}
	}
	if err := st.proceed(); err != nil {
		st.abandon()
		return err
	}
	return nil
}

// serveMount serves the next mount of a stage until its process, and with it the mount, has ended.
func (f *frontEnds) serveMount(st *stage, m fuseMount, s share) error {
	dev, err := st.device()
	if err != nil {
		return err
	}
	mounted, err := fusefs.ServeDevice(s.fs, dev, fusefs.MountOptions{
		ReadOnly: m.ReadOnly, AllowOther: m.AllowOther, Guest: true, Debug: f.debug, Source: m.Source,
	})
	if err != nil {
		dev.Close()
		return fmt.Errorf("serve FUSE mount: %w", err)
	}
	f.serving.Go(func() {
		if err := mounted.Wait(); err != nil {
			f.fail(fmt.Errorf("serve %s: %w", s.mount.Path, err))
		}
	})
	return nil
}

func (f *frontEnds) fail(err error) {
	select {
	case f.failed <- err:
	default: // there is one already
	}
}

func (f *frontEnds) logf(format string, args ...any) { fmt.Fprintf(f.log, format+"\n", args...) }

// closeWait is how long a front end may take to end after its guest has.
const closeWait = 5 * time.Second

// close waits until nothing is served any more; the monitor and the daemons have ended.
func (f *frontEnds) close() error {
	if !waitWithin(&f.serving, closeWait) {
		return fmt.Errorf("front ends did not end within %v", closeWait)
	}
	return nil
}

// waitWithin says whether all of work has ended within d.
func waitWithin(work *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
