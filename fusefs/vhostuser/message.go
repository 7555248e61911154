package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// A message of the vhost-user protocol is a header of three 32-bit words (request, flags, size of the payload) and
// a payload; file descriptors come as ancillary data. Everything is in the machine's byte order: little-endian on
// what mica runs on.
const (
	headerSize = 12
	maxPayload = 512 // more than SET_MEM_TABLE with 8 regions and GET_CONFIG with 256 bytes
	maxFDs     = 8

	flagVersion     = 1
	flagVersionMask = 3
	flagReply       = 1 << 2
	flagNeedReply   = 1 << 3
)

// message is one request of the front end. It owns its descriptors until take hands one over.
type message struct {
	request, flags uint32
	payload        []byte
	fds            []int
}

// readMessage reads the next message; io.EOF means that the front end has gone.
func readMessage(conn *net.UnixConn) (*message, error) {
	m := &message{}
	if err := m.readFrom(conn); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *message) readFrom(conn *net.UnixConn) error {
	var header [headerSize]byte
	if err := m.fill(conn, header[:]); err != nil {
		return err
	}
	m.request = binary.LittleEndian.Uint32(header[0:])
	m.flags = binary.LittleEndian.Uint32(header[4:])
	size := binary.LittleEndian.Uint32(header[8:])
	if m.flags&flagVersionMask != flagVersion || m.flags&flagReply != 0 {
		return fmt.Errorf("request %d has flags %#x, not of protocol version 1", m.request, m.flags)
	}
	if size > maxPayload {
		return fmt.Errorf("request %d has a payload of %d bytes", m.request, size)
	}
	m.payload = make([]byte, size)
	if err := m.fill(conn, m.payload); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	return nil
}

// fill reads all of b, and collects the descriptors that come with it. The error is io.EOF where there is nothing.
func (m *message) fill(conn *net.UnixConn, b []byte) error {
	var ancillary [128]byte // room for maxFDs and more
	for done := 0; done < len(b); {
		n, oobn, flags, _, err := conn.ReadMsgUnix(b[done:], ancillary[:])
		if err := m.collect(ancillary[:oobn]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) && done == 0 {
			return io.EOF
		}
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		if flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxFDs {
			return errors.New("message with too many descriptors")
		}
		done += n
	}
	return nil
}

func (m *message) collect(ancillary []byte) error {
	if len(ancillary) == 0 {
		return nil
	}
	controls, err := unix.ParseSocketControlMessage(ancillary)
	if err != nil {
		return fmt.Errorf("parse ancillary data: %w", err)
	}
	for _, c := range controls {
		if c.Header.Level != unix.SOL_SOCKET || c.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			return fmt.Errorf("parse ancillary data: %w", err)
		}
		m.fds = append(m.fds, fds...)
	}
	return nil
}

// take hands descriptor i over to the caller.
func (m *message) take(i int) int {
	fd := m.fds[i]
	m.fds[i] = -1
	return fd
}

func (m *message) close() {
	for i := range m.fds {
		closeFD(&m.fds[i])
	}
}

func (m *message) u32(off int) uint32 { return binary.LittleEndian.Uint32(m.payload[off:]) }
func (m *message) u64(off int) uint64 { return binary.LittleEndian.Uint64(m.payload[off:]) }

// region decodes the 32 bytes of a memory region at off.
func (m *message) region(off int) regionRange {
	return regionRange{guest: m.u64(off), size: m.u64(off + 8), user: m.u64(off + 16), offset: m.u64(off + 24)}
}

// reply answers m.
func (m *message) reply(conn *net.UnixConn, payload []byte) error {
	b := make([]byte, 0, headerSize+len(payload))
	b = binary.LittleEndian.AppendUint32(b, m.request)
	b = binary.LittleEndian.AppendUint32(b, flagVersion|flagReply)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	if _, err := conn.Write(append(b, payload...)); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

func u64Payload(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
