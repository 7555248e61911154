package launcher

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stopWait    = 10 * time.Second       // for a command to heed SIGTERM when the sandbox is stopped
	signalGrace = 500 * time.Millisecond // in which SIGINT and SIGTERM count as one
)

// catchSignals has the signals that are the guest's sent to a channel. SIGPIPE is among them so that a write to a reader who is gone
// is an error and not the end.
func catchSignals() chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGPIPE)
	return c
}

// stopped is why a run ended that a signal ended before, or against, its guest.
type stopped struct{ signal unix.Signal }

func (s *stopped) Error() string {
	return fmt.Sprintf("stopped by %s before the command ended", unix.SignalName(s.signal))
}

// untilSignal calls half, and gives the signal for an error when one came meanwhile. Between the halves, while this process executes itself,
// a signal ends it as it does any program, and the janitor cleans up.
func (r *run) untilSignal(ctx context.Context, half func(context.Context) error) error {
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	signals := catchSignals()
	r.background.Go(func() { r.heedSignals(ctx, signals) })
	err := half(ctx)
	signal.Stop(signals)
	close(signals) // what is in it is heeded
	r.background.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// heedSignals passes the user's signals on. Before the guest is up, and for a second SIGINT or SIGTERM, the guest is ended instead.
func (r *run) heedSignals(ctx context.Context, signals <-chan os.Signal) {
	var first time.Time
	for {
		var sig unix.Signal
		select {
		case s, open := <-signals:
			if !open {
				return
			}
			sig = s.(unix.Signal)
		case <-ctx.Done():
			return
		}
		g := r.upGuest()
		switch {
		case sig == unix.SIGPIPE:
		case sig == unix.SIGWINCH:
			if g != nil && r.streams.TTY {
				g.resize()
			}
		case g == nil:
			r.cancel(&stopped{sig})
		case (sig == unix.SIGINT || sig == unix.SIGTERM) && !first.IsZero() && time.Since(first) > signalGrace:
			r.cancel(&stopped{sig})
		default:
			if sig == unix.SIGINT || sig == unix.SIGTERM {
				if first.IsZero() {
					first = time.Now()
				}
			}
			g.signal(sig)
		}
	}
}

func (r *run) upGuest() *guest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guest == nil || !r.guest.isUp() {
		return nil
	}
	return r.guest
}

// askToStop is what mica stop does.
func (r *run) askToStop() {
	r.stopOnce.Do(func() {
		close(r.stop)
		if r.upGuest() == nil {
			r.cancel(&stopped{unix.SIGTERM})
		}
	})
}

// heedStop ends the command when the sandbox is asked to stop, and the guest when the command does not heed it.
func (r *run) heedStop(ctx context.Context, g *guest) {
	select {
	case <-ctx.Done():
		return
	case <-r.stop:
	}
	g.signal(unix.SIGTERM)
	select {
	case <-ctx.Done():
	case <-time.After(stopWait):
		r.cancel(&stopped{unix.SIGKILL})
	}
}
