package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

// A guest is the host's view of one.
type guest struct {
	t      *testing.T
	conn   *wire.Conn
	stdin  *wire.StdinSender
	ended  chan error // the process has
	closed chan struct{}
	exited chan wire.Exit

	stdout, stderr *output
}

// An output collects what comes, and says when something did.
type output struct {
	bytes.Buffer
	sink io.Writer // takes it in place of the buffer
	more chan string
}

func (o *output) add(p []byte) {
	if o.sink != nil {
		o.sink.Write(p)
		return
	}
	o.Write(p)
	select {
	case <-o.more:
	default:
	}
	o.more <- o.String()
}

// until waits for text in the output.
func (o *output) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case all := <-o.more:
			if strings.Contains(all, text) {
				return
			}
		case <-deadline:
			t.Fatalf("%q did not come", text)
		}
	}
}

func boot(args ...string) *wire.Boot {
	return &wire.Boot{Root: wire.Mount{Tag: wire.TagRoot, Path: "/"}, Args: args, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}}
}

func shell(script string) *wire.Boot { return boot("/bin/sh", "-c", script) }

// startGuest starts a guest with b that has this machine's files. to, if any, takes its standard output.
func startGuest(t *testing.T, b *wire.Boot, to io.Writer) *guest {
	t.Helper()
	return startAs(t, b, to, asGuest+"=session")
}

// startAs starts a guest of the kind that env names.
func startAs(t *testing.T, b *wire.Boot, to io.Writer, env ...string) *guest {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	hostEnd, guestEnd := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	stream, err := net.FileConn(hostEnd)
	if err != nil {
		t.Fatal(err)
	}
	hostEnd.Close()

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{guestEnd}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		// Unshareflags makes the mounts private, unlike Cloneflags.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start in namespaces: %v", err)
	}
	guestEnd.Close()

	g := &guest{
		t: t, conn: wire.NewConn(stream),
		ended: make(chan error, 1), closed: make(chan struct{}), exited: make(chan wire.Exit, 1),
		stdout: &output{sink: to, more: make(chan string, 1)}, stderr: &output{more: make(chan string, 1)},
	}
	g.stdin = wire.NewStdinSender(g.conn)
	go func() { g.ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); g.conn.Close() })

	if typ, _, err := g.conn.ReadFrame(); typ != wire.TypeReady || err != nil {
		t.Fatalf("first frame: %v, %v; want ready", typ, err)
	}
	if err := g.conn.WriteBoot(b); err != nil {
		t.Fatal(err)
	}
	go g.drain()
	return g
}

// drain is the loop that the host runs for a guest's whole life.
func (g *guest) drain() {
	for {
		typ, payload, err := g.conn.ReadFrame()
		if err != nil {
			return
		}
		switch typ {
		case wire.TypeStdout:
			g.stdout.add(payload)
		case wire.TypeStderr:
			g.stderr.add(payload)
		case wire.TypeCredit:
			if err := g.stdin.Credit(payload); err != nil {
				g.t.Error(err)
			}
		case wire.TypeClose:
			g.stdin.Close()
			close(g.closed)
		case wire.TypeExit:
			exit, err := wire.ParseExit(payload)
			if err != nil {
				g.t.Error(err)
			}
			g.stdin.Close()
			g.conn.WriteFrame(wire.TypeExit, nil)
			g.exited <- exit
		default:
			g.t.Errorf("%v from the guest", typ)
		}
	}
}

// wait returns how the command ended, once the guest is off.
func (g *guest) wait() wire.Exit {
	g.t.Helper()
	select {
	case err := <-g.ended:
		if err != nil {
			g.t.Errorf("the guest: %v", err)
		}
	case <-time.After(60 * time.Second):
		g.t.Fatal("the guest does not end")
	}
	select {
	case exit := <-g.exited:
		return exit
	default:
		g.t.Fatal("the guest ended without an exit frame")
		return wire.Exit{}
	}
}

// runGuest is the whole life of a guest without input.
func runGuest(t *testing.T, b *wire.Boot) (stdout, stderr string, exit wire.Exit) {
	t.Helper()
	return finish(startGuest(t, b, nil))
}

func finish(g *guest) (stdout, stderr string, exit wire.Exit) {
	g.t.Helper()
	if err := g.stdin.Copy(strings.NewReader("")); err != nil && err != wire.ErrStdinClosed {
		g.t.Error(err)
	}
	exit = g.wait()
	return g.stdout.String(), g.stderr.String(), exit
}
