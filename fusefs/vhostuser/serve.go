package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxQueues bounds Options.Queues.
const maxQueues = 64

// Options are how a filesystem is served. The zero value is one request queue with FUSE's defaults.
type Options struct {
	// Mount holds the FUSE settings; nil for go-fuse's defaults. Its Logger is not used.
	Mount *fuse.MountOptions
	// Queues is the number of request queues, 1 where it is 0, at most 64. It has to be the front end's:
	// num-request-queues of QEMU's vhost-user-fs-device.
	Queues int
	// Workers is how many requests that take time (reads, writes, syncs) are served at once; 0 for twice the
	// number of processors, and at least 4.
	Workers int
	// Tag is the name the guest mounts, up to 36 bytes, for front ends that ask for the configuration space. QEMU's
	// device has a tag property instead, and warns about a back end that offers one: leave it empty there.
	Tag string
	// Sync makes the filesystem's writes durable when the guest asks for it with sync(2) or syncfs(2). With nil the
	// guest is told that there is no such thing, and has only fsync(2).
	Sync func() error
	// Log gets what went wrong without ending the connection, without a final newline; nil drops it. A
	// connection logs 100 lines at most. It is called from several goroutines.
	Log func(format string, args ...any)
}

func (o Options) withDefaults() (Options, error) {
	if o.Queues < 0 || o.Queues > maxQueues {
		return o, fmt.Errorf("%d request queues: want 1 to %d", o.Queues, maxQueues)
	}
	if len(o.Tag) > tagSize {
		return o, fmt.Errorf("tag %q is longer than %d bytes", o.Tag, tagSize)
	}
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.Workers <= 0 {
		o.Workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	o.Log = limitLog(o.Log)
	return o, nil
}

// Serve serves fs to one virtual machine: it accepts one connection from l and returns when the front end closes it
// (nil), ctx ends (its error), or the front end breaks the protocol. By then no request is in fs any more; where fs
// heeds no interrupt for five seconds the error says so and is os.ErrDeadlineExceeded. The listener stays the
// caller's; a ctx that ends before the connection sets its deadline.
func Serve(ctx context.Context, l *net.UnixListener, fs fuse.RawFileSystem, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return fmt.Errorf("serve vhost-user: %w", err)
	}
	conn, err := accept(ctx, l)
	if err != nil {
		return fmt.Errorf("accept vhost-user front end: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	d := newDevice(newSession(fs, o), o)
	err = d.converse(conn)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err := errors.Join(err, d.close()); err != nil {
		return fmt.Errorf("serve vhost-user: %w", err)
	}
	return nil
}

// accept takes one connection, until ctx ends.
func accept(ctx context.Context, l *net.UnixListener) (*net.UnixConn, error) {
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	conn, err := l.AcceptUnix()
	if !stop() {
		if conn != nil {
			conn.Close()
		}
		return nil, ctx.Err()
	}
	return conn, err
}

// converse meets the front end's requests until it hangs up.
func (d *device) converse(conn *net.UnixConn) error {
	for {
		m, err := readMessage(conn)
		if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
		err = d.handle(conn, m)
		m.close()
		if errors.Is(err, syscall.EPIPE) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
