package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"

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

// A stage is such a child as the supervisor sees it, before it executes the program.
type stage struct {
	*child
	conn *net.UnixConn
}

// startStage starts the child and sends it the order. out takes what the program writes.
func (n *nursery) startStage(command vmm.Command, mounts []fuseMount, rules landlock.Rules, out *os.File) (*stage, error) {
	conn, theirs, err := connPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(selfPath, wordStage, strconv.Itoa(3+len(command.Files)))
	cmd.Args[0] = selfName
	cmd.ExtraFiles = append(append([]*os.File{}, command.Files...), theirs)
	cmd.Stdout, cmd.Stderr = out, out
	if len(command.Stdin) > 0 {
		input, err := pipeOf(command.Stdin)
		if err != nil {
			conn.Close()
			return nil, err
		}
		defer input.Close()
		cmd.Stdin = input
	}
	cmd.SysProcAttr = namespaces(len(mounts) > 0)
	c, err := n.start(cmd)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	s := &stage{child: c, conn: conn}
	if command.Env == nil {
		command.Env = os.Environ()
	}
	text, err := json.Marshal(stageOrder{Mounts: mounts, Rules: rules, Path: command.Path, Args: command.Args, Env: command.Env})
	if err == nil {
		_, err = conn.Write(text)
	}
	if err != nil {
		s.abandon()
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return s, nil
}

// pipeOf gives a pipe's reading end that holds p: exec.Cmd's own copying would keep Wait from answering.
func pipeOf(p []byte) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer write.Close()
		_, _ = write.Write(p) // the program may end without having read it
	}()
	return read, nil
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

// device receives the descriptor of the next mount.
func (s *stage) device() (*os.File, error) {
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
	if s.err != nil {
		return s.err
	}
	return err
}

// abandon ends a stage that is not going to execute its program.
func (s *stage) abandon() {
	s.conn.Close()
	s.signal(unix.SIGKILL)
	<-s.ended
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
