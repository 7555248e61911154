package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/landlock"
)

// MainPrivateMount is the body of the hidden command __share: the stage of stage.go. Its one argument is the number of the descriptor
// on which it is told what to do. It ends by executing the program.
func MainPrivateMount() {
	if err := runStage(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "mica: %v\n", err)
	}
	os.Exit(125)
}

func runStage(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: one argument, the number of a descriptor, is needed", wordStage)
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("%s: %w", wordStage, err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "stage")
	conn, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("%s: %w", wordStage, err)
	}
	f.Close()
	c := conn.(*net.UnixConn)
	if err := carryOut(c); err != nil {
		text, _ := json.Marshal(stageAnswer{Error: err.Error(), NoFUSE: errors.Is(err, ErrNoFUSE)})
		if send(c, text, nil) != nil {
			return err // nobody is left to tell
		}
	}
	return nil
}

func carryOut(conn *net.UnixConn) error {
	p := make([]byte, maxStageMessage)
	n, err := conn.Read(p)
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	var o stageOrder
	if err := json.Unmarshal(p[:n], &o); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if len(o.Mounts) > 0 {
		// What is mounted here must reach nobody else, and what others mount must not cover it.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
	}
	for _, m := range o.Mounts {
		if err := mountAndPass(conn, m); err != nil {
			return err
		}
	}
	if _, err := conn.Read(p); err != nil {
		return fmt.Errorf("wait for go-ahead: %w", err)
	}
	return landlock.Exec(o.Rules, o.Path, o.Args, o.Env)
}

func mountAndPass(conn *net.UnixConn, m fuseMount) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	dev, err := mountDevice(m)
	if err != nil {
		return err
	}
	defer dev.Close()
	return send(conn, []byte("{}"), dev)
}
