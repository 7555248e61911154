package vhostuser

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzRing lets the fuzzer write a guest's memory: the first half goes where the rings of the request queue are, the
// second where its chains may point to. Whatever is there, the back end stays alive and stops when it is told to.
func FuzzRing(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint16(1), false)
	f.Fuzz(func(t *testing.T, table, data []byte, available uint16, eventIdx bool) {
		s := plain
		s.features |= 1 << featureIndirect
		if eventIdx {
			s.features |= 1 << featureEventIdx
		}
		v := boot(t, newTestFS(t), Options{Workers: 1}, s)
		q := v.queues[1]
		copy(q.desc, table)
		if len(table) > len(q.desc) {
			copy(q.avail[4:], table[len(q.desc):])
		}
		copy(v.memory[dataBase:], data)
		store16(q.avail, 2, available)
		signal(q.kick)
		v.queues[0].roundTrip(v.message(opForget, 2, u64Payload(1)), 0)
		v.ask(11, pair(1, 0))
		if err := v.hangUp(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if v.logged("panic:") {
			t.Errorf("log %q", v.logs)
		}
	})
}

// FuzzProtocol lets the fuzzer speak for the front end. Each byte of fds says how many descriptors, of the guest's
// memory or an eventfd, go with the next message.
func FuzzProtocol(f *testing.F) {
	f.Add(u32s(1, flagVersion, 0), []byte{0})
	f.Fuzz(func(t *testing.T, stream, fds []byte) {
		v := dial(t, newTestFS(t), Options{Workers: 1, Tag: "fuzz"})
		memfd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(memfd)
		unix.Ftruncate(memfd, 1<<16)
		event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(event)
		for len(stream) > 0 {
			size := headerSize
			if len(stream) >= headerSize {
				size = min(len(stream), headerSize+int(stream[8])+int(stream[9])<<8)
			}
			var rights []byte
			if len(fds) > 0 && fds[0] > 0 {
				all := make([]int, fds[0]&15)
				for i := range all {
					all[i] = [...]int{memfd, event}[fds[0]>>7]
				}
				rights = unix.UnixRights(all...)
			}
			fds = fds[min(1, len(fds)):]
			v.conn.SetWriteDeadline(time.Now().Add(patience))
			if _, _, err := v.conn.WriteMsgUnix(stream[:min(size, len(stream))], rights, nil); err != nil {
				break // it was hung up on
			}
			stream = stream[min(size, len(stream)):]
		}
		v.conn.CloseWrite()
		v.wait() // the error is the fuzzer's
		if v.logged("panic:") {
			t.Errorf("log %q", v.logs)
		}
	})
}
