package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/micavm/mica/guest-init/wire"
)

// portWait is how long the monitor may take to announce the control port.
const portWait = 30 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest-init: it is PID 1 of a mica guest, and nothing else")
		os.Exit(2)
	}
	catchSignals()
	sys := linux{}
	guard(sys, func() {
		if err := serve(sys); err != nil {
			complain(err)
		}
	})
	sys.Reboot()
	os.Exit(1) // the kernel panics, which ends the guest too
}

// serve is the life of a guest.
func serve(sys system) error {
	if err := mountAll(sys, earlyMounts); err != nil {
		return err
	}
	port, err := openPort(wire.PortControl, portWait)
	if err != nil {
		return err
	}
	return attend(sys, port)
}

// attend does what the host at the other end of port asks for.
func attend(sys system, port io.ReadWriteCloser) error {
	conn := wire.NewConn(port)
	if err := conn.WriteFrame(wire.TypeReady, nil); err != nil {
		return err
	}
	boot, err := conn.ReadBoot()
	if err != nil {
		return err
	}
	s := newSession(sys, conn)
	go guard(sys, s.receive)
	return s.end(carryOut(sys, s, boot), boot)
}

// carryOut makes the guest that boot describes, and runs its command.
func carryOut(sys system, s *session, boot *wire.Boot) wire.Exit {
	if err := furnish(sys, boot); err != nil {
		return exitOf(err)
	}
	exit, err := s.run(boot)
	if err != nil {
		return exitOf(err)
	}
	return exit
}

// guard runs f. A panic in it ends the guest, with its words on the console.
func guard(sys system, f func()) {
	defer func() {
		if r := recover(); r != nil {
			complain(fmt.Errorf("panic: %v", r))
			sys.Reboot()
		}
	}()
	f()
}

// catchSignals lets nobody end the guest by a signal to PID 1. Ignored signals would be inherited by the command; these are not.
func catchSignals() { signal.Notify(make(chan os.Signal, 1)) }

// complain writes to the console: standard error, as the kernel has opened it.
func complain(err error) { fmt.Fprintf(os.Stderr, "guest-init: %v\n", err) }
