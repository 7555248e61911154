package launcher

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	input, err := memoryFile(text.Bytes())
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
	d := &detached{Answer: kept{answer}}
	p := new(Plan)
	err := gob.NewDecoder(os.Stdin).Decode(p)
	var streams IO
	if err == nil {
		streams, err = d.connect()
	}
	if err != nil {
		d.tell(err)
		os.Exit(int(StatusFailed))
	}
	r := newRun(p, streams)
	r.Detached = d
	status, _ := r.execute(context.Background()) // end has told the error
	os.Exit(int(status))
}

// A detached run has an asker, who waits until the guest is up, and logs in place of a user's streams.
type detached struct {
	Answer kept
	Output [2]kept // what comes out of the run's standard output and error

	logged []<-chan struct{} // closed once all of an output is kept
}

// connect makes the run's streams.
func (d *detached) connect() (streams IO, err error) {
	for i, w := range []**os.File{&streams.Stdout, &streams.Stderr} {
		if d.Output[i].File, *w, err = os.Pipe(); err != nil {
			return streams, fmt.Errorf("detach: %w", err)
		}
	}
	return streams, nil
}

// keepOutput begins the logs. A throw-away sandbox has no folder that lasts: what it writes is dropped.
func (d *detached) keepOutput(p *Plan) error {
	for i, name := range []string{"stdout.log", "stderr.log"} {
		if p.Project == "" {
			go func() { _, _ = io.Copy(io.Discard, d.Output[i]) }()
			continue
		}
		l, err := createLog(filepath.Join(p.Project, ".mica", p.Name, "log", name), logLimit)
		if err != nil {
			return err
		}
		d.logged = append(d.logged, l.drain(d.Output[i]))
	}
	return nil
}

// end says the error of a run to the asker and to the log, which it closes.
func (d *detached) end(streams IO, err error) {
	if err != nil {
		d.tell(err)
		fmt.Fprintf(streams.Stderr, "mica: %v\n", err)
	}
	streams.Stdout.Close()
	streams.Stderr.Close()
	for _, done := range d.logged {
		<-done
	}
}

func (d *detached) tellUp() { d.tell(nil) }

// tell answers the asker once: a second answer finds the descriptor closed.
func (d *detached) tell(err error) {
	var a detachedAnswer
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(d.Answer).Encode(a) // the asker may be gone: the run is not its business any more
	d.Answer.Close()
}
