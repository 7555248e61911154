package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// A stageOrder is what a stage is told: a child of ours that mounts FUSE file systems where only it sees them, confines itself, and
// executes a program in its place. The mounts are in a mount namespace of the child's own, so they end with it.
type stageOrder struct {
	Mounts []fuseMount    `json:"mounts,omitempty"`
	Rules  landlock.Rules `json:"rules"`
	Path   string         `json:"path"`
	Args   []string       `json:"args"`
	Env    []string       `json:"env"`
}

// A stageAnswer is one message of the stage: a mount is made, its /dev/fuse descriptor comes along, or why the stage failed.
type stageAnswer struct {
	Error  string `json:"error,omitempty"`
	NoFUSE bool   `json:"no_fuse,omitempty"`
}

// maxStageMessage is the longest message of either side, in bytes.
const maxStageMessage = 1 << 20

// A stage is such a child as the supervisor sees it. It executes the program when its mounts are served.
type stage struct {
	Process *child
	Mounts  []fuseMount
	First   int  // the number of the share that the first of Mounts shows; the next one shows the next
	Line    kept // on which it answers

	conn *net.UnixConn // Line, once it is used
}

// startStage starts the child and sends it the order. out takes what the program writes.
func (n *nursery) startStage(command vmm.Command, mounts []fuseMount, rules landlock.Rules, out *os.File) (*stage, error) {
	line, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(selfPath, wordStage, strconv.Itoa(3+len(command.Files)))
	cmd.Args[0] = selfName
	cmd.ExtraFiles = append(append([]*os.File{}, command.Files...), theirs)
	cmd.Stdout, cmd.Stderr = out, out
	if len(command.Stdin) > 0 {
		input, err := memoryFile(command.Stdin)
		if err != nil {
			line.Close()
			return nil, err
		}
		defer input.Close()
		cmd.Stdin = input
	}
	cmd.SysProcAttr = namespaces(len(mounts) > 0)
	c, err := n.start(cmd)
	if err != nil {
		line.Close()
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	s := &stage{Process: c, Mounts: mounts, Line: kept{line}}
	if command.Env == nil {
		command.Env = os.Environ()
	}
	text, err := json.Marshal(stageOrder{Mounts: mounts, Rules: rules, Path: command.Path, Args: command.Args, Env: command.Env})
	if err == nil {
		_, err = line.Write(text)
	}
	if err != nil {
		s.abandon()
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return s, nil
}

// namespaces gives a child a mount namespace, and an ordinary user's child a user namespace in which it may mount.
func namespaces(mounts bool) *syscall.SysProcAttr {
	attr := new(syscall.SysProcAttr)
	if !mounts {
		return attr
	}
	attr.Cloneflags = syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// open makes Line a connection.
func (s *stage) open() (err error) {
	if s.conn == nil {
		s.conn, err = connOf(s.Line.File)
	}
	return err
}

// device receives the descriptor of the next mount.
func (s *stage) device() (*os.File, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	p := make([]byte, maxStageMessage)
	n, dev, err := receive(s.conn, p)
	if err != nil {
		return nil, fmt.Errorf("receive FUSE mount: %w", s.failure(err))
	}
	if err := parseAnswer(p[:n]); err != nil {
		return nil, err
	}
	if dev == nil {
		return nil, errors.New("receive FUSE mount: no descriptor")
	}
	return dev, nil
}

// proceed lets the stage execute the program, and returns once it did.
func (s *stage) proceed() error {
	if err := s.open(); err != nil {
		return err
	}
	defer s.conn.Close()
	if _, err := s.conn.Write([]byte("{}")); err != nil {
		return fmt.Errorf("start program: %w", s.failure(err))
	}
	p := make([]byte, maxStageMessage)
	n, _, err := receive(s.conn, p)
	if errors.Is(err, io.EOF) {
		return nil // closed by execve
	}
	if err != nil {
		return fmt.Errorf("start program: %w", err)
	}
	return parseAnswer(p[:n])
}

// failure is how the child ended, when that is why the connection failed.
func (s *stage) failure(err error) error {
	s.abandon()
	if s.Process.err != nil {
		return s.Process.err
	}
	return err
}

// abandon ends a stage that is not going to execute its program.
func (s *stage) abandon() {
	s.hangUp()
	s.Process.signal(unix.SIGKILL)
	<-s.Process.ended()
}

// stop ends the program as child.stop does; a stage that has not executed it ends by itself, for its line has ended.
func (s *stage) stop(ctx context.Context, grace, term time.Duration) {
	s.hangUp()
	s.Process.stop(ctx, grace, term)
}

func (s *stage) hangUp() {
	s.Line.Close()
	if s.conn != nil {
		s.conn.Close()
	}
}

func parseAnswer(text []byte) error {
	var answer stageAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("read stage's answer: %w", err)
	}
	switch {
	case answer.NoFUSE:
		return &hinted{ErrNoFUSE, answer.Error}
	case answer.Error != "":
		return errors.New(answer.Error)
	}
	return nil
}
