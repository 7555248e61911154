package vhostuser

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostileRings shows what a guest may not do with its rings: its queue stops, the others go on, and so does the
// back end.
func TestHostileRings(t *testing.T) {
	const (
		in  = uint64(guestBase + dataBase)
		out = uint64(guestBase + dataBase + 4096)
	)
	table := func(q *driver, entries ...[]byte) {
		copy(q.f.memory[dataBase+8192:], bytes.Join(entries, nil))
		putDescriptor(q.desc, guestBase+dataBase+8192, 16*len(entries), descIndirect, 0)
		q.offer(0)
	}
	entry := func(addr uint64, length int, flags, next uint16) []byte {
		b := make([]byte, 16)
		putDescriptor(b, addr, length, flags, next)
		return b
	}
	for name, test := range map[string]struct {
		attack func(q *driver)
		log    string
	}{
		"cycle": {func(q *driver) {
			putDescriptor(q.desc, in, 64, descNext, 1)
			putDescriptor(q.desc[16:], in, 64, descNext, 0)
			q.offer(0)
		}, "longer than its ring"},
		"cycle to itself": {func(q *driver) {
			putDescriptor(q.desc, in, 64, descNext, 0)
			q.offer(0)
		}, "longer than its ring"},
		"cycle in a table": {func(q *driver) {
			table(q, entry(in, 64, descNext, 0))
		}, "longer than its ring"},
		"no bytes": {func(q *driver) {
			putDescriptor(q.desc, in, 0, 0, 0)
			q.offer(0)
		}, "descriptor of no bytes"},
		"no bytes in a table": {func(q *driver) {
			table(q, entry(in, 0, 0, 0))
		}, "descriptor of no bytes"},
		"empty table": {func(q *driver) {
			table(q)
		}, "indirect table of 0 bytes"},
		"table of 17 bytes": {func(q *driver) {
			putDescriptor(q.desc, in, 17, descIndirect, 0)
			q.offer(0)
		}, "indirect table of 17 bytes"},
		"table of 4 GiB": {func(q *driver) {
			putDescriptor(q.desc, in, 1<<32-16, descIndirect, 0)
			q.offer(0)
		}, "indirect table of 4294967280 bytes"},
		"table nowhere": {func(q *driver) {
			putDescriptor(q.desc, 1<<50, 16, descIndirect, 0)
			q.offer(0)
		}, "indirect table at 0x4000000000000"},
		"table in a table": {func(q *driver) {
			table(q, entry(in, 16, descIndirect, 0))
		}, "indirect descriptor in an indirect table"},
		"table and next": {func(q *driver) {
			putDescriptor(q.desc, in, 16, descIndirect|descNext, 1)
			q.offer(0)
		}, "with other flags"},
		"next beyond the table": {func(q *driver) {
			table(q, entry(in, 64, descNext, 1))
		}, "descriptor 1 of an indirect table of 1"},
		"next beyond the ring": {func(q *driver) {
			putDescriptor(q.desc, in, 64, descNext, 16)
			q.offer(0)
		}, "descriptor 16 of a ring of 16"},
		"head beyond the ring": {func(q *driver) {
			q.offer(65535)
		}, "descriptor 65535 of a ring of 16"},
		"read after write": {func(q *driver) {
			putDescriptor(q.desc, out, 64, descWrite|descNext, 1)
			putDescriptor(q.desc[16:], in, 64, 0, 0)
			q.offer(0)
		}, "to read after one to write"},
		"buffer nowhere": {func(q *driver) {
			putDescriptor(q.desc, 0, 64, 0, 0)
			q.offer(0)
		}, "buffer of 64 bytes at 0x0"},
		"buffer wraps around": {func(q *driver) {
			putDescriptor(q.desc, 1<<64-8, 64, 0, 0)
			q.offer(0)
		}, "not in guest memory"},
		"buffer ends outside": {func(q *driver) {
			putDescriptor(q.desc, guestBase+memorySize-8, 64, 0, 0)
			q.offer(0)
		}, "not in guest memory"},
		"more than there is": {func(q *driver) {
			q.next += 17
			store16(q.avail, 2, q.next)
			signal(q.kick)
		}, "made 17 entries of a ring of 16 available"},
		"one chain again and again": {func(q *driver) {
			message := q.f.message(opSetlkw, 2, make([]byte, 48))
			copy(q.f.memory[dataBase:], message)
			putDescriptor(q.desc, in, len(message), descNext, 1)
			putDescriptor(q.desc[16:], out, outHeaderSize, descWrite, 0)
			for range 16 {
				q.offer(0)
			}
			for range 16 {
				<-q.f.fs.locks
			}
			q.offer(0)
		}, "more than 16 chains"},
	} {
		t.Run(name, func(t *testing.T) {
			f := boot(t, newTestFS(t), Options{}, setup{size: 16, queues: 2, features: plain.features | 1<<featureIndirect})
			errFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(errFD)
			f.tell(14, u64Payload(1), errFD)
			test.attack(f.queues[1])
			events := []unix.PollFd{{Fd: int32(errFD), Events: unix.POLLIN}}
			if n, err := unix.Poll(events, int(patience.Milliseconds())); n != 1 || !f.logged(test.log) {
				t.Errorf("%d, %v, log %q, not %q", n, err, f.logs, test.log)
			}
			if reply := f.queues[2].roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize); status(reply) != 0 {
				t.Errorf("LOOKUP on another queue: %v", status(reply))
			}
			if _, _, err := f.queues[1].collect(time.Millisecond); err != errNoAnswer {
				t.Errorf("the broken queue answers: %v", err)
			}
			f.ask(11, pair(1, 0))
			if err := f.hangUp(); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestLogIsBounded(t *testing.T) {
	f := boot(t, newTestFS(t), Options{}, plain)
	for range 3 * maxLogLines {
		f.queues[1].roundTrip(f.message(4711, 1), entryOutSize)
	}
	if len(f.logs) != maxLogLines {
		t.Errorf("%d lines logged", len(f.logs))
	}
}

// TestHugeBuffers shows that a guest cannot have the host allocate what it likes.
func TestHugeBuffers(t *testing.T) {
	f := boot(t, newTestFS(t), Options{}, plain)
	q := f.queues[1]
	in := f.message(opGetxattr, 2, u32s(1<<30, 0), []byte("x\x00"))
	copy(f.memory[dataBase:], in)
	putDescriptor(q.desc, guestBase+dataBase, len(in), descNext, 1)
	for i := 1; i < 16; i++ { // the same 8 MiB again and again
		flags := uint16(descWrite | descNext)
		if i == 15 {
			flags = descWrite
		}
		putDescriptor(q.desc[16*i:], guestBase+memorySize/2, memorySize/2, flags, uint16(i+1))
	}
	q.offer(0)
	if _, n, err := q.collect(patience); err != nil || status(f.memory[memorySize/2:][:n]) != unix.EIO {
		t.Errorf("%d bytes, %v", n, err)
	}
}
