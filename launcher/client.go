package launcher

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Stop asks the running sandbox of this name to end, and returns when it has and nothing of the run is left. Project "" takes the name in any
// project. The error wraps ErrNotFound when it does not run.
func Stop(ctx context.Context, name, project string) error {
	s, err := find(ctx, name, project)
	if err != nil {
		return err
	}
	conn, err := dial(s)
	if err != nil {
		return fmt.Errorf("stop sandbox %s: %w", name, err)
	}
	defer conn.Close()
	defer closeOnDone(ctx, conn)()
	if err := ask(conn, controlRequest{Op: "stop"}, nil); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", name, err)
	}
	if err := waitForEnd(ctx, s, conn); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", name, err)
	}
	return nil
}

// waitForEnd waits for the supervisor, which keeps conn open, and then for its janitor.
func waitForEnd(ctx context.Context, s State, conn io.Reader) error {
	_, _ = io.Copy(io.Discard, conn)
	dir, err := runDir(s.Name, s.Project)
	if err != nil {
		return err
	}
	for {
		_, err := os.Lstat(dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if now, err := readState(dir); err == nil && now.Process != s.Process {
			return nil // somebody has started it anew
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cleanUpPoll):
		}
	}
}

// Remove removes what a sandbox of a project has written, its upper and its logs. The error wraps ErrRunning when it runs.
func Remove(ctx context.Context, name, project string) error {
	if s, err := find(ctx, name, project); err == nil {
		return runningError(s)
	}
	p := &Plan{Name: name, Project: project}
	dir := filepath.Join(project, ".mica", name)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sandbox %s has nothing to remove: %w", name, err)
	}
	home, err := OpenHome(p)
	if err != nil {
		return err
	}
	defer home.Close()
	if err := removeTree(home.Dir); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", name, err)
	}
	return nil
}

// MountRunning mounts the root of a running sandbox on dir: what is seen there is what its guest has. It stays until it is unmounted, or the sandbox ends. A writable one may find
// that the guest has cached what was there before. The error wraps ErrNotFound when the sandbox does not run.
func MountRunning(ctx context.Context, name, project, dir string, writable bool) error {
	s, err := find(ctx, name, project)
	if err != nil {
		return err
	}
	dir, err = mountPoint(dir)
	if err != nil {
		return err
	}
	conn, err := dial(s)
	if err != nil {
		return fmt.Errorf("mount sandbox %s: %w", name, err)
	}
	defer conn.Close()
	defer closeOnDone(ctx, conn)()
	m := fuseMount{Dir: dir, Source: "mica:" + s.Name, ReadOnly: !writable, AllowOther: mayAllowOther(), DefaultPermissions: true}
	dev, err := mountDevice(m)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := ask(conn, controlRequest{Op: "mount", Mount: &m}, dev); err != nil {
		return errors.Join(fmt.Errorf("mount sandbox %s: %w", name, err), unmount(dir))
	}
	return nil
}

func runDir(name, project string) (string, error) {
	root, err := runtimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, runName(name, project)), nil
}

func dial(s State) (*net.UnixConn, error) {
	dir, err := runDir(s.Name, s.Project)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, controlSocket), Net: "unix"})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("it is only starting, or ending (pid %d): try again", s.PID())
	}
	return conn, err
}

// ask sends one request and reads its answer.
func ask(conn *net.UnixConn, r controlRequest, dev *os.File) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := send(conn, append(line, '\n'), dev); err != nil {
		return err
	}
	text, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	var answer controlAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}
