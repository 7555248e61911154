package vhostuser

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const entryOutSize = outHeaderSize + 128

// setups are the ways a driver may use its rings.
var setups = map[string]setup{
	"plain":        plain,
	"event index":  {size: 16, queues: 1, features: plain.features | 1<<featureEventIdx},
	"indirect":     {size: 16, queues: 1, features: plain.features | 1<<featureIndirect, indirect: true},
	"all":          {size: 64, queues: 3, features: offeredFeatures, indirect: true},
	"no protocol":  {size: 8, queues: 1, features: 1 << featureVersion1},
	"largest ring": {size: maxRingSize, queues: 1, features: offeredFeatures},
}

func initMessage(f *frontend) []byte {
	return f.message(opInit, 0, u32s(7, 41, 1<<17, 0), make([]byte, 48))
}

func TestServe(t *testing.T) {
	for name, s := range setups {
		t.Run(name, func(t *testing.T) {
			fs := newTestFS(t)
			f := boot(t, fs, Options{}, s)
			if reply := f.queues[1].roundTrip(initMessage(f), outHeaderSize+64); status(reply) != 0 || len(reply) != outHeaderSize+64 {
				t.Fatalf("INIT: %v, %d bytes", status(reply), len(reply))
			}
			for round := range 3 * s.size { // so that the indices wrap around the ring
				q := f.queues[1+round%s.queues]
				reply := q.roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize)
				if status(reply) != 0 || binary.LittleEndian.Uint64(reply[outHeaderSize:]) != 2 {
					t.Fatalf("LOOKUP: %v, % x", status(reply), reply)
				}
				if got, want := binary.LittleEndian.Uint64(reply[8:]), f.unique; got != want {
					t.Fatalf("answer to request %d, not %d", got, want)
				}
			}
			reply := f.queues[1].roundTrip(f.message(opLookup, 1, []byte("none\x00")), entryOutSize)
			if status(reply) != unix.ENOENT {
				t.Errorf("LOOKUP of what does not exist: %v", status(reply))
			}
			if err := f.hangUp(); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestReadAndWrite(t *testing.T) {
	fs := newTestFS(t)
	f := boot(t, fs, Options{Workers: 1}, plain)
	q := f.queues[1]
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	write := append(append(u64Payload(1), u64Payload(0)...), u32s(uint32(len(data)), 0, 0, 0, 0, 0)...)
	reply := q.roundTrip(f.message(opWrite, 2, write, data), outHeaderSize+8)
	if status(reply) != 0 || binary.LittleEndian.Uint32(reply[outHeaderSize:]) != uint32(len(data)) {
		t.Fatalf("WRITE: %v", status(reply))
	}
	reply = q.roundTrip(f.message(opRead, 2, readIn(0, uint32(len(data)))), outHeaderSize+len(data))
	if status(reply) != 0 || !bytes.Equal(reply[outHeaderSize:], data) {
		t.Errorf("READ: %v, %d bytes", status(reply), len(reply))
	}
	reply = q.roundTrip(f.message(opRead, 2, readIn(uint64(len(data)-5), 100)), outHeaderSize+100)
	if status(reply) != 0 || string(reply[outHeaderSize:]) != "bcdef" {
		t.Errorf("READ at the end: %v, %q", status(reply), reply)
	}
	reply = q.roundTrip(f.message(opReaddir, 1, readIn(0, 4096)), outHeaderSize+4096)
	if status(reply) != 0 || !bytes.Contains(reply, []byte("file")) || len(reply) > 100 {
		t.Errorf("READDIR: %v, %q", status(reply), reply)
	}
	value := bytes.Repeat([]byte{'v'}, 60<<10)
	reply = q.roundTrip(f.message(opSetxattr, 2, u32s(uint32(len(value)), 0), []byte("user.x\x00"), value), outHeaderSize)
	if got, _ := os.ReadFile(fs.file.Name()); status(reply) != 0 || !bytes.Equal(got[:len(value)], value) {
		t.Errorf("SETXATTR of a large value: %v", status(reply))
	}
}

func TestCrossRegion(t *testing.T) {
	fs := newTestFS(t)
	f := boot(t, fs, Options{}, plain)
	q := f.queues[1]
	// The name's bytes lie across the border of the two regions.
	in := f.message(opLookup, 1, []byte("file\x00"))
	border := memorySize / 2
	at := border - len(in) + 2
	copy(f.memory[at:], in)
	putDescriptor(q.desc, uint64(guestBase+at), len(in), descNext, 1)
	putDescriptor(q.desc[16:], uint64(guestBase+dataBase), entryOutSize, descWrite, 0)
	q.offer(0)
	if _, n, err := q.collect(patience); err != nil || status(f.memory[dataBase:][:n]) != 0 {
		t.Errorf("LOOKUP across regions: %d bytes, %v", n, err)
	}
}

func TestForgetsInOrder(t *testing.T) {
	fs := newTestFS(t)
	f := boot(t, fs, Options{}, plain)
	for node := uint64(10); node < 40; node++ {
		if reply := f.queues[0].roundTrip(f.message(opForget, node, u64Payload(1)), 0); len(reply) != 0 {
			t.Fatalf("FORGET was answered with %q", reply)
		}
	}
	f.hangUp()
	if len(fs.forgets) != 30 || !slices.IsSorted(fs.forgets) {
		t.Errorf("forgets are %v", fs.forgets)
	}
}

func TestManyAtOnce(t *testing.T) {
	fs := newTestFS(t)
	fs.gate = make(chan struct{})
	f := boot(t, fs, Options{Workers: 2}, plain)
	q := f.queues[1]
	for range 3 {
		q.submit(f.message(opFsync, 2, make([]byte, 16)), outHeaderSize)
	}
	<-fs.inFsync
	<-fs.inFsync
	// Two workers are busy and one request waits for them: what is quick is answered all the same.
	if reply := q.roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize); status(reply) != 0 {
		t.Errorf("LOOKUP beside slow requests: %v", status(reply))
	}
	close(fs.gate)
	for range 3 {
		if head, n, err := q.collect(patience); err != nil || status(q.answer(head, outHeaderSize, n)) != 0 {
			t.Errorf("FSYNC: %v", err)
		}
	}
}

func TestLocksHoldUpNoWorker(t *testing.T) {
	fs := newTestFS(t)
	f := boot(t, fs, Options{Workers: 1}, setup{size: 16, queues: 1, features: plain.features})
	q := f.queues[1]
	lock := q.submit(f.message(opSetlkw, 2, make([]byte, 48)), outHeaderSize)
	unique := f.unique
	<-fs.locks
	if reply := q.roundTrip(f.message(opFsync, 2, make([]byte, 16)), outHeaderSize); status(reply) != 0 {
		t.Errorf("FSYNC beside a lock: %v", status(reply))
	}
	f.queues[0].roundTrip(f.message(opInterrupt, 0, u64Payload(unique)), outHeaderSize)
	head, n, err := q.collect(patience)
	if err != nil || head != lock || status(q.answer(head, outHeaderSize, n)) != unix.EINTR {
		t.Errorf("SETLKW after INTERRUPT: chain %d, %v", head, err)
	}
}

func TestSync(t *testing.T) {
	for want, sync := range map[unix.Errno]func() error{
		0:           func() error { return nil },
		unix.ENOSPC: func() error { return unix.ENOSPC },
		unix.ENOSYS: nil,
	} {
		f := boot(t, newTestFS(t), Options{Sync: sync}, plain)
		if reply := f.queues[1].roundTrip(f.message(opSyncfs, 1, make([]byte, 8)), outHeaderSize); status(reply) != want {
			t.Errorf("SYNCFS: %v, not %v", status(reply), want)
		}
	}
}

func TestErrorReplies(t *testing.T) {
	f := boot(t, newTestFS(t), Options{}, plain)
	q := f.queues[1]
	for name, test := range map[string]struct {
		in      []byte
		outSize int
		want    unix.Errno
	}{
		"no room for the reply": {f.message(opLookup, 1, []byte("file\x00")), outHeaderSize + 8, unix.EIO},
		"short header":          {f.message(opLookup, 1)[:20], entryOutSize, unix.EIO},
		"short READ":            {f.message(opRead, 2), entryOutSize, unix.EIO},
		"unknown opcode":        {f.message(4711, 1), entryOutSize, unix.ENOSYS},
		"SETLKW too short":      {f.message(opSetlkw, 2), outHeaderSize, unix.EIO},
		"READ of 4 GiB":         {f.message(opRead, 2, readIn(0, 1<<32-1)), 8192, unix.EIO},
		"GETXATTR of 4 GiB":     {f.message(opGetxattr, 2, u32s(1<<32-1, 0), []byte("x\x00")), 8192, unix.EIO},
		"a filesystem's panic":  {f.message(25, 2, make([]byte, 24)), outHeaderSize, unix.EIO},
	} {
		if reply := q.roundTrip(test.in, test.outSize); status(reply) != test.want || len(reply) != outHeaderSize {
			t.Errorf("%s: %v in %d bytes, not %v", name, status(reply), len(reply), test.want)
		}
	}
	if reply := q.roundTrip(f.message(opLookup, 1, []byte("file\x00")), 8); len(reply) != 0 {
		t.Errorf("reply of %d bytes in 8", len(reply))
	}
}

func TestKicksAreSpared(t *testing.T) {
	for _, name := range []string{"plain", "event index"} {
		fs := newTestFS(t)
		fs.gate = make(chan struct{})
		f := boot(t, fs, Options{}, setups[name])
		q := f.queues[1]
		for range 4 {
			q.submit(f.message(opFsync, 2, make([]byte, 16)), outHeaderSize)
		}
		close(fs.gate)
		for range 4 {
			if _, _, err := q.collect(patience); err != nil {
				t.Fatal(err)
			}
		}
		if q.kicks < 1 || q.kicks > 4 {
			t.Errorf("%s: %d kicks for 4 requests", name, q.kicks)
		}
	}
}

func TestStop(t *testing.T) {
	t.Run("GET_VRING_BASE drains and restarts", func(t *testing.T) {
		fs := newTestFS(t)
		f := boot(t, fs, Options{}, plain)
		q := f.queues[1]
		for range 5 {
			q.roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize)
		}
		if got, want := f.ask(11, pair(1, 0)), pair(1, 5); !bytes.Equal(got, want) {
			t.Fatalf("GET_VRING_BASE says % x, not % x", got, want)
		}
		q.offer(q.free[0]) // nobody looks at it
		f.tell(10, pair(1, 5))
		f.tell(9, q.addresses())
		f.tell(12, u64Payload(1), q.kick)
		if _, _, err := q.collect(patience); err != nil {
			t.Errorf("after the restart: %v", err)
		}
	})
	t.Run("GET_VRING_BASE interrupts what waits", func(t *testing.T) {
		fs := newTestFS(t)
		fs.gate = make(chan struct{})
		f := boot(t, fs, Options{Workers: 1}, plain)
		for range 2 { // one of them only comes to a worker after the other
			f.queues[1].submit(f.message(opFsync, 2, make([]byte, 16)), outHeaderSize)
		}
		<-fs.inFsync
		f.queues[1].roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize) // so all were taken
		if got, want := f.ask(11, pair(1, 0)), pair(1, 3); !bytes.Equal(got, want) {
			t.Errorf("GET_VRING_BASE says % x, not % x", got, want)
		}
		for range 2 {
			head, n, err := f.queues[1].collect(patience)
			if err != nil || status(f.queues[1].answer(head, outHeaderSize, n)) != unix.EINTR {
				t.Errorf("interrupted FSYNC: %v", err)
			}
		}
	})
	t.Run("context", func(t *testing.T) {
		fs := newTestFS(t)
		f := boot(t, fs, Options{}, plain)
		f.queues[1].submit(f.message(opSetlkw, 2, make([]byte, 48)), outHeaderSize)
		<-fs.locks
		f.cancel()
		if err := f.wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Run("context before the connection", func(t *testing.T) {
		f := dial(t, newTestFS(t), Options{})
		f.cancel()
		if err := f.wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Run("deaf filesystem", func(t *testing.T) {
		fs := newTestFS(t)
		fs.gate, fs.deaf = make(chan struct{}), true
		f := boot(t, fs, Options{}, plain)
		f.queues[1].submit(f.message(opFsync, 2, make([]byte, 16)), outHeaderSize)
		<-fs.inFsync
		if err := f.hangUp(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Serve: %v", err)
		}
		close(fs.gate) // the request ends in memory that is still mapped
	})
}

func TestMemoryTakenAway(t *testing.T) {
	fs := newTestFS(t)
	fs.gate = make(chan struct{})
	f := boot(t, fs, Options{}, plain)
	extra := regionRange{guest: guestBase + memorySize, size: 1 << 20, user: 0x1000_0000}
	f.tell(37, append(make([]byte, 8), encodeRegion(extra)...), f.memfd)
	q := f.queues[1]
	in := f.message(opFsync, 2, make([]byte, 16))
	copy(f.memory[ringSpace*10:], in) // the extra region shows the start of the same file
	putDescriptor(q.desc, extra.guest+ringSpace*10, len(in), descNext, 1)
	putDescriptor(q.desc[16:], extra.guest+ringSpace*11, outHeaderSize, descWrite, 0)
	q.offer(0)
	<-fs.inFsync
	f.tell(38, append(make([]byte, 8), encodeRegion(extra)...))
	close(fs.gate)
	if _, n, err := q.collect(patience); err != nil || status(f.memory[ringSpace*11:][:n]) != 0 {
		t.Errorf("request in a region that was removed: %d bytes, %v", n, err)
	}
	q.offer(0)
	if _, _, err := q.collect(100 * time.Millisecond); err != errNoAnswer || !f.logged("not in guest memory") {
		t.Errorf("new request in it: %v, log %q", err, f.logs)
	}
}

func TestMemoryCutOff(t *testing.T) {
	f := boot(t, newTestFS(t), Options{}, plain)
	f.cutMemoryOff()
	signal(f.queues[1].kick)
	f.awaitLog("memory is gone")
	if err := f.hangUp(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestMemoryCutOffBeforeStart has the memory gone when the queue looks at it for the first time.
func TestMemoryCutOffBeforeStart(t *testing.T) {
	f := dial(t, newTestFS(t), Options{Queues: plain.queues})
	f.hello(plain.features)
	f.shareMemory()
	q := newDriver(f, 0, plain)
	f.cutMemoryOff()
	f.bringUp(q, 0, plain)
	f.awaitLog("memory is gone")
	if err := f.hangUp(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func (f *frontend) cutMemoryOff() {
	f.t.Helper()
	if err := unix.Ftruncate(f.memfd, 0); err != nil {
		f.t.Fatal(err)
	}
}

func (f *frontend) awaitLog(words string) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !f.logged(words); runtime.Gosched() {
		if time.Now().After(deadline) {
			f.t.Fatalf("log %q", f.logs)
		}
	}
}

func TestNothingLeaks(t *testing.T) {
	run := func() {
		fs := newTestFS(t)
		f := boot(t, fs, Options{}, setups["all"])
		f.queues[1].roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize)
		f.queues[2].submit(f.message(opSetlkw, 2, make([]byte, 48)), outHeaderSize)
		<-fs.locks
		f.try(37, append(make([]byte, 8), encodeRegion(lowRegion)...), f.memfd)  // overlaps
		f.try(12, u64Payload(200), f.memfd)                                      // no such queue
		f.try(12, u64Payload(1), f.memfd)                                        // running
		f.try(13, u64Payload(1|noDescriptor), f.memfd)                           // one too many
		f.try(5, memTable(lowRegion, lowRegion), f.memfd, f.memfd)               // overlap
		f.try(38, append(make([]byte, 8), encodeRegion(highRegion)...), f.memfd) // tolerated
		f.close()
		fs.file.Close()
	}
	run()
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	for range 5 {
		run()
	}
	deadline := time.Now().Add(patience)
	for openFDs(t) > fds || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors were %d, %d goroutines were %d", openFDs(t), fds, runtime.NumGoroutine(), goroutines)
		}
		runtime.Gosched()
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
