package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/micavm/mica/fusefs"
)

const (
	controlSocket = "control.sock"

	maxControlLine = 64 << 10        // bytes
	controlWait    = 5 * time.Second // for the other end to say what it wants
)

// A controlRequest is one line of JSON from a command about a running sandbox.
type controlRequest struct {
	Op    string     `json:"op"`              // stop or mount
	Mount *fuseMount `json:"mount,omitempty"` // its /dev/fuse descriptor comes with the line
}

// A controlAnswer is the line that it is answered with.
type controlAnswer struct {
	Error string `json:"error,omitempty"`
}

// A controlServer answers the commands about a running sandbox, on the socket in its run folder.
type controlServer struct {
	listener *net.UnixListener
	root     *fusefs.FS
	janitor  *janitor
	stop     func() // asks the run to end; may be called often
	debug    bool

	work sync.WaitGroup

	mu     sync.Mutex
	mounts map[string]*fusefs.Mounted // of the host, by folder
	conns  map[*net.UnixConn]bool
	closed bool
}

// startControl begins to answer, on a socket in dir.
func startControl(dir string, root *fusefs.FS, j *janitor, debug bool, stop func()) (*controlServer, error) {
	path, err := socketPath(dir, controlSocket)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	c := &controlServer{
		listener: l, root: root, janitor: j, debug: debug, stop: stop,
		mounts: map[string]*fusefs.Mounted{}, conns: map[*net.UnixConn]bool{},
	}
	c.work.Go(c.accept)
	return c, nil
}

func (c *controlServer) accept() {
	for {
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(cleanUpPoll) // out of descriptors: others will be closed
			continue
		}
		if !c.add(conn) {
			conn.Close()
			return
		}
		c.work.Go(func() { c.answer(conn) })
	}
}

func (c *controlServer) add(conn *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.conns[conn] = true
	}
	return !c.closed
}

// answer carries out one request. The connection of a stop stays open until the run has ended: that is how the asker knows.
func (c *controlServer) answer(conn *net.UnixConn) {
	if checkPeer(conn) != nil {
		c.drop(conn)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(controlWait))
	request, dev, err := receiveRequest(conn)
	if err == nil {
		err = c.carryOut(request, dev)
	}
	if dev != nil && err != nil {
		dev.Close()
	}
	var answer controlAnswer
	if err != nil {
		answer.Error = err.Error()
	}
	text, _ := json.Marshal(answer)
	if _, err := conn.Write(append(text, '\n')); err != nil || request.Op != "stop" {
		c.drop(conn)
	}
}

func (c *controlServer) drop(conn *net.UnixConn) {
	c.mu.Lock()
	delete(c.conns, conn)
	c.mu.Unlock()
	conn.Close()
}

func (c *controlServer) carryOut(r controlRequest, dev *os.File) error {
	switch {
	case r.Op == "stop":
		c.stop()
		return nil
	case r.Op == "mount" && r.Mount != nil && dev != nil:
		return c.mount(*r.Mount, dev)
	}
	return fmt.Errorf("request %q is not understood: use the mica that runs the sandbox", r.Op)
}

// mount adds a front end for the host, which the asker has mounted.
func (c *controlServer) mount(m fuseMount, dev *os.File) error {
	if err := c.janitor.tell(order{Unmount: m.Dir}); err != nil {
		return err
	}
	mounted, err := fusefs.ServeDevice(c.root, dev, fusefs.MountOptions{
		ReadOnly: m.ReadOnly, AllowOther: m.AllowOther, DefaultPermissions: m.DefaultPermissions, Debug: c.debug, Source: m.Source,
	})
	if err != nil {
		return fmt.Errorf("serve mount: %w", err)
	}
	c.mu.Lock()
	c.mounts[m.Dir] = mounted
	c.mu.Unlock()
	c.work.Go(func() {
		_ = mounted.Wait() // however it ended, it is gone
		c.mu.Lock()
		delete(c.mounts, m.Dir)
		c.mu.Unlock()
		_ = c.janitor.tell(order{Forget: m.Dir}) // at the end of the run the janitor may be at work already
	})
	return nil
}

// close unmounts what is mounted on the host, and ends. Who waits for a stop is let go by release, at the very end.
func (c *controlServer) close() error {
	c.listener.Close()
	c.mu.Lock()
	c.closed = true
	var dirs []string
	for dir := range c.mounts {
		dirs = append(dirs, dir)
	}
	for conn := range c.conns {
		_ = conn.SetReadDeadline(time.Now())
	}
	c.mu.Unlock()
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, c.janitor.tell(order{Detach: dir}))
	}
	if !waitWithin(&c.work, closeWait) {
		errs = append(errs, fmt.Errorf("mounts on the host are still in use: %s", strings.Join(dirs, ", ")))
	}
	return errors.Join(errs...)
}

// release closes the connections of those who wait for the end.
func (c *controlServer) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
}

// receiveRequest reads one line, and the descriptor that came with its beginning.
func receiveRequest(conn *net.UnixConn) (controlRequest, *os.File, error) {
	var r controlRequest
	line, dev, err := receiveLine(conn)
	if err != nil {
		return r, dev, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, dev, fmt.Errorf("read request: %w", err)
	}
	return r, dev, nil
}

func receiveLine(conn *net.UnixConn) ([]byte, *os.File, error) {
	p := make([]byte, maxControlLine)
	n, dev, err := receive(conn, p)
	for err == nil && p[n-1] != '\n' {
		if n == len(p) {
			return nil, dev, fmt.Errorf("read line: longer than %d bytes", len(p))
		}
		var more int
		more, err = conn.Read(p[n:])
		n += more
	}
	if err != nil {
		return nil, dev, fmt.Errorf("read line: %w", err)
	}
	return p[:n], dev, nil
}

// closeOnDone closes conn when ctx ends.
func closeOnDone(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.Close() })
}
