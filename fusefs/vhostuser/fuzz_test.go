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

// FuzzWalk takes chains out of a guest's memory that is all the fuzzer's, rings included, and has them answered. There
// are no goroutines in it, so it gets further than FuzzRing.
func FuzzWalk(f *testing.F) {
	const size = 1 << 16
	fs := newTestFS(f)
	s := newSession(fs, Options{Log: func(string, ...any) {}})
	guest := make([]byte, size)
	m := newMemory([]*region{
		{regionRange: regionRange{guest: 0, size: size / 2, user: userBase}, data: guest[: size/2 : size/2]},
		{regionRange: regionRange{guest: size / 2, size: size / 2, user: 0}, data: guest[size/2:]},
	})
	f.Fuzz(func(t *testing.T, content []byte, eventIdx bool) {
		clear(guest)
		copy(guest, content)
		r := ring{size: 16, eventIdx: eventIdx}
		if err := r.place(m, ringAddresses{desc: userBase, avail: userBase + 256, used: userBase + 512}); err != nil {
			t.Fatal(err)
		}
		r.start()
		var b scratch
		for range 100 { // an answer can fall on the rings, and make more available
			n, err := r.pending()
			if n == 0 || err != nil {
				return
			}
			head, err := r.take()
			if err != nil {
				return
			}
			q := request{server: s.server.Load()}
			if err := q.walk(&r, m, head); err != nil {
				return
			}
			q.load()
			if op := q.opcode(); op != opSetlkw { // it would wait
				if written := s.answer(&q, &b); written > q.outSize {
					t.Fatalf("%d bytes written into %d", written, q.outSize)
				}
			}
			r.put(head, 0)
			r.wantsCall()
		}
	})
}
