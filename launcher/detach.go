package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// A detachedOrder is what a supervisor in the background is told on its standard input: secrets are not for its arguments.
type detachedOrder struct {
	Plan  *Plan `json:"plan"`
	Reset bool  `json:"reset"`
	Quiet bool  `json:"quiet"`
	Debug bool  `json:"debug"`
}

// A detachedAnswer is the one line that it answers with.
type detachedAnswer struct {
	Error string `json:"error,omitempty"` // "" when the guest is up
}

// answerDescriptor is the background supervisor's descriptor for its answer.
const answerDescriptor = 3

// Detach carries the plan out in the background, in a session of its own, and returns once the guest is up. What the command writes goes to
// stdout.log and stderr.log of the sandbox's log folder, the last of each.
func Detach(p *Plan) error {
	text, err := json.Marshal(detachedOrder{Plan: p, Reset: p.Reset, Quiet: p.Quiet, Debug: p.Debug})
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	input, err := pipeOf(text)
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

// MainDetached is the body of the hidden command __run, Detach's other half.
func MainDetached() {
	var o detachedOrder
	answer := os.NewFile(answerDescriptor, "answer")
	syscall.CloseOnExec(answerDescriptor)
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		tellAsker(answer, fmt.Errorf("read plan: %w", err))
		os.Exit(int(StatusFailed))
	}
	o.Plan.Reset, o.Plan.Quiet, o.Plan.Debug = o.Reset, o.Quiet, o.Debug
	status, err := runDetached(o.Plan, answer)
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

func runDetached(p *Plan, answer *os.File) (Status, error) {
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
