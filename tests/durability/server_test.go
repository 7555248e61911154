package durability

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// serve is the process that is killed: LOWER DIR MOUNTPOINT. It says when the mount is there, and ends with its input.
func serve(args []string) error {
	fs, err := fusefs.New(config(args[0], args[1]))
	if err != nil {
		return err
	}
	m, err := fusefs.Mount(fs, args[2], fusefs.MountOptions{DefaultPermissions: true, Source: "durability"})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := m.Unmount(); err != nil {
		return err
	}
	return fs.Close()
}

// A server is a process that serves a union.
type server struct {
	cmd   *exec.Cmd
	stdin io.Closer // which it lives as long as
	mount string
}

func startServer(t *testing.T, lower, dir string) *server {
	t.Helper()
	s := &server{mount: filepath.Join(dir, "mount")}
	must(t, os.Mkdir(s.mount, 0o755))
	s.cmd = exec.Command(os.Args[0], lower, dir, s.mount)
	s.cmd.Env = append(os.Environ(), roleVariable+"=server")
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	must(t, err)
	s.stdin = stdin
	stdout, err := s.cmd.StdoutPipe()
	must(t, err)
	must(t, s.cmd.Start())
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	return s
}

// buried waits for the end of a killed server, and takes its mount away.
func (s *server) buried(t *testing.T) {
	t.Helper()
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
	must(t, unix.Unmount(s.mount, unix.MNT_DETACH))
}
