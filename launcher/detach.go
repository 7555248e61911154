package launcher

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// A detachedAnswer is the one line that it answers with.
type detachedAnswer struct {
	Error string `json:"error,omitempty"` // "" when the guest is up
}

// answerDescriptor is the background supervisor's descriptor for its answer.
const answerDescriptor = 3

// Detach carries the plan out in the background, in a session of its own, and returns once the guest is up. What the command writes goes to
// stdout.log and stderr.log of the sandbox's log folder, the last of each.
func Detach(p *Plan) error {
	// By way of standard input, because secrets are not for arguments; as gob, because arguments need not be text.
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(p); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	input, err := pipeOf(text.Bytes())
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer input.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer read.Close()
	cmd := exec.Command(selfPath, wordDetached)
	cmd.Args[0] = selfName
	cmd.Dir = "/"
	cmd.Stdin = input
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer func() { _ = cmd.Process.Release() }()
	var answer detachedAnswer
	if err := json.NewDecoder(read).Decode(&answer); err != nil {
		return fmt.Errorf("detach: the supervisor of sandbox %s ended without a word", p.Name)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// MainDetached is the body of the hidden command __run, Detach's other half: it reads the plan from standard input.
func MainDetached() { mainDetached(newRun) }

func mainDetached(newRun func(*Plan, IO) *run) {
	answer := os.NewFile(answerDescriptor, "answer")
	syscall.CloseOnExec(answerDescriptor)
	p := new(Plan)
	status, err := StatusFailed, gob.NewDecoder(os.Stdin).Decode(p)
	if err == nil {
		status, err = runDetached(p, answer, newRun)
	}
	if err != nil {
		tellAsker(answer, err)
	}
	os.Exit(int(status))
}

// tellAsker answers once: a second answer finds the descriptor closed.
func tellAsker(answer *os.File, err error) {
	var a detachedAnswer
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(answer).Encode(a) // the asker may be gone: the run is not its business any more
	answer.Close()
}

func runDetached(p *Plan, answer *os.File, newRun func(*Plan, IO) *run) (Status, error) {
	stdout, outDone, err := detachedLog(p, "stdout.log")
	if err != nil {
		return StatusFailed, err
	}
	stderr, errDone, err := detachedLog(p, "stderr.log")
	if err != nil {
		return StatusFailed, err
	}
	r := newRun(p, IO{Stdout: stdout, Stderr: stderr})
	r.onUp = func() { tellAsker(answer, nil) }
	status, err := r.execute(context.Background())
	if err != nil {
		fmt.Fprintf(stderr, "mica: %v\n", err)
	}
	stdout.Close()
	stderr.Close()
	<-outDone
	<-errDone
	return status, err
}

// detachedLog is a file for what a detached command writes, and done is closed once all of it is kept. A throw-away sandbox has no folder that
// lasts: what it writes is dropped.
func detachedLog(p *Plan, name string) (w *os.File, done <-chan struct{}, err error) {
	if p.Project == "" {
		w, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		kept := make(chan struct{})
		close(kept)
		return w, kept, err
	}
	l, err := createLog(filepath.Join(p.Project, ".mica", p.Name, "log", name), logLimit)
	if err != nil {
		return nil, nil, err
	}
	return l.pump()
}
