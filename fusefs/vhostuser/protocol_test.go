package vhostuser

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefused shows what the back end does not accept; each of these is told to the front end, and does no harm.
func TestRefused(t *testing.T) {
	region := func(r regionRange) []byte { return append(make([]byte, 8), encodeRegion(r)...) }
	free := regionRange{guest: 1 << 40, size: 4096, user: 1 << 40}
	with := func(change func(*regionRange)) []byte {
		r := free
		change(&r)
		return region(r)
	}
	for name, test := range map[string]struct {
		request uint32
		payload []byte
		fds     int
		log     string
	}{
		"unknown request":             {99, nil, 0, "not supported"},
		"logging":                     {6, make([]byte, 16), 1, "not supported"},
		"features not offered":        {2, u64Payload(1 << 40), 0, "not offered"},
		"protocol features":           {16, u64Payload(1 << protocolConfig), 0, "not offered"},
		"short payload":               {8, make([]byte, 7), 0, "payload of 7 bytes, not 8"},
		"long payload":                {3, make([]byte, 1), 0, "payload of 1 bytes, not 0"},
		"unwanted descriptor":         {3, nil, 1, "1 descriptors, not 0"},
		"memory table cut off":        {5, memTable(free)[:20], 1, "1 regions in 20 bytes"},
		"memory table without a file": {5, memTable(free), 0, "0 descriptors"},
		"memory table of 2^32-1":      {5, []byte{255, 255, 255, 255, 0, 0, 0, 0}, 0, "4294967295 regions"},
		"memory table too short":      {5, nil, 0, "payload of 0 bytes"},
		"empty region":                {37, with(func(r *regionRange) { r.size = 0 }), 1, "empty"},
		"huge region":                 {37, with(func(r *regionRange) { r.size = 1 << 63 }), 1, "too large"},
		"region wraps around":         {37, with(func(r *regionRange) { r.guest = 1<<64 - 4096 + 1 }), 1, "wraps around"},
		"user region wraps around":    {37, with(func(r *regionRange) { r.user = 1<<64 - 4096 + 1 }), 1, "wraps around"},
		"region beyond its file":      {37, with(func(r *regionRange) { r.offset = memorySize }), 1, "beyond its file"},
		"region overlaps":             {37, with(func(r *regionRange) { r.guest = guestBase + 1 }), 1, "overlaps"},
		"region overlaps user":        {37, with(func(r *regionRange) { r.user = userBase - 1 }), 1, "overlaps"},
		"region without a file":       {37, region(free), 0, "0 descriptors, not 1"},
		"no such region":              {38, region(free), 0, "no memory region"},
		"two files for no region":     {38, region(free), 2, "2 descriptors"},
		"no such queue":               {8, pair(2, 16), 0, "no queue 2"},
		"running queue's size":        {8, pair(1, 32), 0, "queue 1 is running"},
		"running queue's base":        {10, pair(1, 32), 0, "queue 1 is running"},
		"running queue's kick":        {12, u64Payload(1), 1, "queue 1 is running"},
		"enable neither 0 nor 1":      {18, pair(1, 2), 0, "neither 0 nor 1"},
		"log address":                 {9, append(pair(1, 1), make([]byte, 32)...), 0, "logging"},
		"call without a descriptor":   {13, u64Payload(1), 0, "0 descriptors, not 1"},
		"no-descriptor bit with one":  {14, u64Payload(1 | noDescriptor), 1, "1 descriptors, not 0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := boot(t, newTestFS(t), Options{}, plain)
			var fds []int
			for range test.fds {
				fds = append(fds, f.memfd)
			}
			if ok, err := f.try(test.request, test.payload, fds...); ok || err != nil {
				t.Errorf("accepted %v, %v", ok, err)
			}
			if !f.logged(test.log) {
				t.Errorf("log %q, not %q", f.logs, test.log)
			}
			if reply := f.queues[1].roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize); status(reply) != 0 {
				t.Errorf("LOOKUP after that: %v", status(reply))
			}
		})
	}
}

func TestRingsRefused(t *testing.T) {
	address := func(desc, used, avail uint64) []byte {
		b := append(pair(1, 0), u64Payload(desc)...)
		return append(append(append(b, u64Payload(used)...), u64Payload(avail)...), u64Payload(0)...)
	}
	for name, test := range map[string]struct {
		size     uint32
		base     uint32
		address  []byte
		accepted bool
	}{
		"good":                    {16, 0, address(userBase, userBase+0x1000, userBase+0x2000), true},
		"empty ring":              {size: 0},
		"not a power of two":      {size: 12},
		"too large":               {size: 2048},
		"base of 17 bits":         {16, 1 << 16, nil, false},
		"descriptors not aligned": {16, 0, address(userBase+8, userBase+0x1000, userBase+0x2000), false},
		"used not aligned":        {16, 0, address(userBase, userBase+0x1002, userBase+0x2000), false},
		"available not aligned":   {16, 0, address(userBase, userBase+0x1000, userBase+0x2001), false},
		"descriptors nowhere":     {16, 0, address(16, userBase+0x1000, userBase+0x2000), false},
		"crosses regions":         {16, 0, address(userBase+memorySize/2-16, userBase+0x1000, userBase+0x2000), false},
		"ends outside":            {16, 0, address(userBase, userBase+memorySize/2-4, userBase+0x2000), false},
		"wraps around":            {16, 0, address(1<<64-16, userBase+0x1000, userBase+0x2000), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := dial(t, newTestFS(t), Options{})
			f.hello(plain.features)
			f.shareMemory()
			kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(kick)
			accepted := true
			for _, step := range []struct {
				request uint32
				payload []byte
				fds     []int
			}{{8, pair(1, test.size), nil}, {10, pair(1, test.base), nil}, {12, u64Payload(1), []int{kick}}, {9, test.address, nil}} {
				if step.payload == nil {
					continue
				}
				ok, err := f.try(step.request, step.payload, step.fds...)
				if err != nil {
					t.Fatal(err)
				}
				accepted = accepted && ok
			}
			if accepted != test.accepted {
				t.Errorf("accepted %v, log %q", accepted, f.logs)
			}
		})
	}
}

// TestConnectionEnds shows what ends the connection: what nobody can be told of.
func TestConnectionEnds(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		fds   int
		want  string
	}{
		"nothing":              {nil, 0, ""},
		"half a header":        {[]byte{1, 0, 0, 0}, 0, "unexpected EOF"},
		"half a payload":       {append(u32s(2, flagVersion, 8), 1, 2), 0, "unexpected EOF"},
		"another version":      {u32s(1, 2, 0), 0, "not of protocol version 1"},
		"an answer":            {u32s(1, flagVersion|flagReply, 0), 0, "not of protocol version 1"},
		"huge payload":         {u32s(1, flagVersion, 1<<31), 0, "payload of 2147483648 bytes"},
		"too many descriptors": {u32s(3, flagVersion, 0), 20, "too many descriptors"},
		"unacknowledged error": {u32s(8, flagVersion, 8, 77, 1), 0, "SET_VRING_NUM: no queue 77"},
		"bad question":         {u32s(11, flagVersion|flagNeedReply, 8, 77, 1), 0, "GET_VRING_BASE: no queue 77"},
	} {
		t.Run(name, func(t *testing.T) {
			fds := openFDs(t)
			f := dial(t, newTestFS(t), Options{})
			f.writeRaw(test.bytes, test.fds)
			f.conn.CloseWrite()
			err := f.wait()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Serve: %v, not %q", err, test.want)
			}
			f.conn.Close()
			if now := openFDs(t); now > fds+2 { // the file of the filesystem, and the runtime's epoll
				t.Errorf("%d descriptors were %d", now, fds)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	f := dial(t, newTestFS(t), Options{Queues: 4, Tag: "root"})
	if got := binary.LittleEndian.Uint64(f.ask(15, nil)); got&(1<<protocolConfig) == 0 {
		t.Errorf("protocol features %#x", got)
	}
	if got := binary.LittleEndian.Uint64(f.ask(17, nil)); got != 5 {
		t.Errorf("%d queues", got)
	}
	if got := binary.LittleEndian.Uint64(f.ask(36, nil)); got != maxRegions {
		t.Errorf("%d memory slots", got)
	}
	config := f.ask(24, append(u32s(0, 40, 0), make([]byte, 40)...))
	want := append(append(u32s(0, 40, 0), "root"...), make([]byte, 32)...)
	if want = append(want, u32s(4)...); !bytes.Equal(config, want) {
		t.Errorf("configuration % x, not % x", config, want)
	}
	if got := f.ask(24, append(u32s(250, 40, 0), make([]byte, 40)...)); len(got) != 0 {
		t.Errorf("configuration beyond its end: % x", got)
	}
	if got := f.ask(11, pair(3, 0)); !bytes.Equal(got, pair(3, 0)) {
		t.Errorf("base of a queue that never ran: % x", got)
	}
	f.send(4, nil)
	if err := f.hangUp(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestQueueWithoutKicks(t *testing.T) {
	f := dial(t, newTestFS(t), Options{})
	f.hello(plain.features)
	f.shareMemory()
	q := newDriver(f, 1, plain)
	f.queues = append(f.queues, q)
	f.tell(8, pair(1, 16))
	f.tell(9, q.addresses())
	f.tell(13, u64Payload(1), q.call)
	f.tell(12, u64Payload(1|noDescriptor))
	f.tell(18, pair(1, 1))
	if reply := q.roundTrip(f.message(opLookup, 1, []byte("file\x00")), entryOutSize); status(reply) != 0 {
		t.Errorf("LOOKUP: %v", status(reply))
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Queues: -1}, {Queues: 65}, {Tag: strings.Repeat("x", 37)}} {
		if err := Serve(t.Context(), nil, nil, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestKickIsNoEventfd(t *testing.T) {
	f := dial(t, newTestFS(t), Options{})
	f.hello(plain.features)
	f.shareMemory()
	f.tell(8, pair(1, 16))
	f.tell(12, u64Payload(1), f.memfd)
	if ok, err := f.try(9, ringAddressesOf(1)); ok || err != nil || !f.logged("no eventfd") {
		t.Errorf("accepted %v, %v, log %q", ok, err, f.logs)
	}
}
