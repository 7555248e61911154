package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A State is what a running sandbox tells about itself, in state.json of its run folder.
type State struct {
	Name      string    `json:"name"`
	Project   string    `json:"project,omitempty"` // "" for a throw-away sandbox
	Image     string    `json:"image"`
	VMM       string    `json:"vmm,omitempty"` // "" until it is chosen
	Transport string    `json:"transport,omitempty"`
	Process   process   `json:"process"`
	Started   time.Time `json:"started"`
	Up        bool      `json:"up"` // the guest runs the command
}

// PID is the supervisor's process number.
func (s State) PID() int { return s.Process.PID }

const stateFile = "state.json"

// publish writes the state so that a reader finds the old one or this one, whole.
func (s State) publish(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	next := filepath.Join(dir, stateFile+".new")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, stateFile)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// readState gives the state of the sandbox whose run folder dir is; ErrNotFound when its supervisor has ended.
func readState(dir string) (State, error) {
	var s State
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, ErrNotFound
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	if !s.Process.alive() {
		return s, ErrNotFound
	}
	return s, nil
}

// cleanUpWait is how long a run waits for the janitor of an earlier one that was killed.
const cleanUpWait = 10 * time.Second

// claim makes the run folder of s and publishes s in it. A sandbox that runs already is ErrRunning, and the line says who has it.
func claim(ctx context.Context, dir string, s State) (*lockedFolder, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanUpWait)
	defer cancel()
	for {
		folder, err := lockFolder(dir)
		if err == nil {
			if err = folder.empty(); err == nil {
				err = s.publish(dir)
			}
			if err != nil {
				folder.release()
				return nil, fmt.Errorf("prepare run folder: %w", err)
			}
			return folder, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("prepare run folder: %w", err)
		}
		if has, err := readState(dir); err == nil {
			return nil, runningError(has)
		}
		select { // its owner is about to publish, or its janitor is at work
		case <-ctx.Done():
			return nil, &hinted{ErrRunning, fmt.Sprintf("sandbox %s is being cleaned up (%s is locked): try again", s.Name, dir)}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func runningError(s State) error {
	return &hinted{ErrRunning, fmt.Sprintf("sandbox %s is running since %s (pid %d): stop it with mica stop %s",
		s.Name, s.Started.Local().Format("2006-01-02 15:04:05"), s.PID(), s.Name)}
}

// List gives the sandboxes of this user that run, by name of their run folder, and removes what dead ones left.
func List(ctx context.Context) ([]State, error) {
	root, err := runtimeDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var running []State
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := filepath.Join(root, entry.Name())
		s, err := readState(dir)
		switch {
		case err == nil:
			running = append(running, s)
		case errors.Is(err, ErrNotFound):
			sweep(dir)
		}
	}
	return running, nil
}

// sweep removes a folder that nobody has. What cannot be removed now is for the next one who tries.
func sweep(dir string) {
	if folder, err := lockExisting(dir); err == nil {
		_ = folder.remove()
	}
}

// find gives the one running sandbox of the name; project "" takes any.
func find(ctx context.Context, name, project string) (State, error) {
	running, err := List(ctx)
	if err != nil {
		return State{}, err
	}
	var found []State
	for _, s := range running {
		if s.Name == name && (project == "" || s.Project == project) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return State{}, &hinted{ErrNotFound, fmt.Sprintf("sandbox %s is not running: mica ls lists those that do", name)}
	case 1:
		return found[0], nil
	}
	return State{}, fmt.Errorf("sandbox %s runs in %s and in %s: say which with --file", name, found[0].Project, found[1].Project)
}
