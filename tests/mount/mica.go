package mount

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/micavm/mica/fusefs"
)

// serveVariable is set for the child that serves: a request as JSON.
const serveVariable = "MICA_TEST_SERVE"

const ready = "ready"

type request struct {
	Stack Stack
	Dir   string
}

// Main makes the program the server when it was started as one, and then does not return; and it has the tests run in a mount namespace
// of their own. TestMain calls it first.
func Main() {
	words := os.Getenv(serveVariable)
	if words == "" {
		enterNamespace()
		return
	}
	var r request
	err := json.Unmarshal([]byte(words), &r)
	if err == nil {
		err = serve(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve serves until standard input ends.
func serve(r request) (err error) {
	config := fusefs.Config{Upper: &fusefs.Upper{Dir: r.Stack.Upper, Work: r.Stack.Work}}
	for i, dir := range r.Stack.Lower {
		layer := fusefs.Layer{Dir: dir}
		if len(r.Stack.Indexes) > 0 {
			layer.Index = r.Stack.Indexes[i]
		}
		config.Layers = append(config.Layers, layer)
	}
	fs, err := fusefs.New(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	mounted, err := fusefs.Mount(fs, r.Dir, fusefs.MountOptions{AllowOther: true, DefaultPermissions: true, Source: "mica", Passthrough: r.Stack.Passthrough})
	if err != nil {
		return err
	}
	fmt.Println(ready)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return errors.Join(err, mounted.Unmount())
	}
	return mounted.Unmount()
}

// A Mica is mica's union.
type Mica struct {
	request request
	server  *exec.Cmd
	stop    io.Closer
}

// NewMica mounts s at dir. The program must have called Main.
func NewMica(s Stack, dir string) (*Mica, error) {
	m := &Mica{request: request{Stack: s, Dir: dir}}
	return m, m.start()
}

func (m *Mica) start() error {
	words, err := json.Marshal(m.request)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.server = exec.Command(self)
	m.server.Env = append(os.Environ(), serveVariable+"="+string(words))
	m.server.Stderr = os.Stderr
	if m.stop, err = m.server.StdinPipe(); err != nil {
		return err
	}
	out, err := m.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.server.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != ready+"\n" {
		return errors.Join(fmt.Errorf("start server: %w", err), m.server.Wait())
	}
	return nil
}

// Dir is where it is mounted.
func (m *Mica) Dir() string { return m.request.Dir }

// Remount ends the server and starts another one.
func (m *Mica) Remount() error {
	if err := m.Close(); err != nil {
		return err
	}
	return m.start()
}

// Close unmounts it and ends the server.
func (m *Mica) Close() error {
	if err := m.stop.Close(); err != nil {
		return err
	}
	if err := m.server.Wait(); err != nil {
		return fmt.Errorf("server of %s: %w", m.request.Dir, err)
	}
	return nil
}
