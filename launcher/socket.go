package launcher

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketPair makes two connected sockets of the given type, closed on exec unless a child is given one.
func socketPair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// connOf gives one end of a pair as a connection, in place of the file.
func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// send writes p with the descriptor of f, or with none when f is nil.
func send(conn *net.UnixConn, p []byte, f *os.File) error {
	var oob []byte
	if f != nil {
		oob = unix.UnixRights(int(f.Fd()))
	}
	_, _, err := conn.WriteMsgUnix(p, oob, nil)
	return err
}

// receive reads into p, and the at most one descriptor that came along: more are closed.
func receive(conn *net.UnixConn, p []byte) (int, *os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(p, oob)
	if err != nil {
		return n, nil, err
	}
	f, err := descriptor(oob[:oobn])
	return n, f, err
}

func descriptor(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receive descriptor: %w", err)
	}
	var first *os.File
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue // not a message about descriptors
		}
		for _, fd := range fds {
			if first != nil {
				unix.Close(fd)
				continue
			}
			unix.CloseOnExec(fd)
			first = os.NewFile(uintptr(fd), "received")
		}
	}
	return first, nil
}

var errPeer = errors.New("the other end belongs to another user")

// checkPeer refuses a connection of another user than this process's, root aside.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return errPeer
	}
	return nil
}
