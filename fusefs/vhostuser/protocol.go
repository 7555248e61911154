package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Feature bits of virtio and of the vhost-user protocol.
const (
	featureIndirect = 28
	featureEventIdx = 29
	featureProtocol = 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featureVersion1 = 32

	offeredFeatures = 1<<featureIndirect | 1<<featureEventIdx | 1<<featureProtocol | 1<<featureVersion1

	protocolMQ       = 0
	protocolReplyAck = 3
	protocolConfig   = 9
	protocolMemSlots = 15
)

// Shapes of payloads, in bytes.
const (
	regionSize       = 32
	tableHeaderSize  = 8 // of SET_MEM_TABLE, before its regions
	maxTableRegions  = 8
	regionHeaderSize = 8 // of ADD_MEM_REG and REM_MEM_REG, before the region
	configHeaderSize = 12
	maxConfigSize    = 256
	tagSize          = 36

	noDescriptor = 1 << 8 // bit of SET_VRING_KICK, CALL and ERR: no descriptor comes with it
)

// handler is how one request of the front end is met.
type handler struct {
	name     string
	size     int // of the payload; -1 where run checks it
	fds      int // -1 where run checks it
	ownReply bool
	run      func(d *device, m *message) (reply []byte, err error)
}

// handlers are the requests understood (VhostUserRequest).
var handlers = map[uint32]handler{
	1:  {"GET_FEATURES", 0, 0, true, (*device).getFeatures},
	2:  {"SET_FEATURES", 8, 0, false, (*device).setFeatures},
	3:  {"SET_OWNER", 0, 0, false, (*device).setOwner},
	4:  {"RESET_OWNER", 0, 0, false, (*device).resetOwner},
	5:  {"SET_MEM_TABLE", -1, -1, false, (*device).setMemTable},
	8:  {"SET_VRING_NUM", 8, 0, false, (*device).setVringNum},
	9:  {"SET_VRING_ADDR", 40, 0, false, (*device).setVringAddr},
	10: {"SET_VRING_BASE", 8, 0, false, (*device).setVringBase},
	11: {"GET_VRING_BASE", 8, 0, true, (*device).getVringBase},
	12: {"SET_VRING_KICK", 8, -1, false, (*device).setVringKick},
	13: {"SET_VRING_CALL", 8, -1, false, (*device).setVringCall},
	14: {"SET_VRING_ERR", 8, -1, false, (*device).setVringErr},
	15: {"GET_PROTOCOL_FEATURES", 0, 0, true, (*device).getProtocolFeatures},
	16: {"SET_PROTOCOL_FEATURES", 8, 0, false, (*device).setProtocolFeatures},
	17: {"GET_QUEUE_NUM", 0, 0, true, (*device).getQueueNum},
	18: {"SET_VRING_ENABLE", 8, 0, false, (*device).setVringEnable},
	24: {"GET_CONFIG", -1, 0, true, (*device).getConfig},
	36: {"GET_MAX_MEM_SLOTS", 0, 0, true, (*device).getMaxMemSlots},
	37: {"ADD_MEM_REG", regionHeaderSize + regionSize, 1, false, (*device).addMemReg},
	38: {"REM_MEM_REG", regionHeaderSize + regionSize, -1, false, (*device).remMemReg},
}

// handle meets one request and answers it. An error that the front end cannot be told ends the connection.
func (d *device) handle(conn *net.UnixConn, m *message) error {
	h, known := handlers[m.request]
	reply, err := d.dispatchMessage(h, known, m)
	switch acknowledge := m.flags&flagNeedReply != 0 && d.protocol&(1<<protocolReplyAck) != 0; {
	case err == nil && h.ownReply:
		return m.reply(conn, reply)
	case err != nil && (h.ownReply || !acknowledge):
		return err
	case err != nil:
		d.log("vhost-user: %v", err)
		return m.reply(conn, u64Payload(1))
	case acknowledge:
		return m.reply(conn, u64Payload(0))
	}
	return nil
}

func (d *device) dispatchMessage(h handler, known bool, m *message) ([]byte, error) {
	if !known {
		return nil, fmt.Errorf("request %d is not supported", m.request)
	}
	if h.size >= 0 && len(m.payload) != h.size {
		return nil, fmt.Errorf("%s has a payload of %d bytes, not %d", h.name, len(m.payload), h.size)
	}
	if h.fds >= 0 && len(m.fds) != h.fds {
		return nil, fmt.Errorf("%s comes with %d descriptors, not %d", h.name, len(m.fds), h.fds)
	}
	reply, err := h.run(d, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return reply, nil
}

func (d *device) getFeatures(*message) ([]byte, error) { return u64Payload(offeredFeatures), nil }

func (d *device) setFeatures(m *message) ([]byte, error) {
	features := m.u64(0)
	if features&^offeredFeatures != 0 {
		return nil, fmt.Errorf("features %#x were not offered", features&^offeredFeatures)
	}
	d.features = features
	if features&(1<<featureProtocol) == 0 { // such a front end has no SET_VRING_ENABLE
		for _, q := range d.queues {
			q.enable(true)
		}
	}
	return nil, nil
}

func (d *device) protocolFeatures() uint64 {
	f := uint64(1<<protocolMQ | 1<<protocolReplyAck | 1<<protocolMemSlots)
	if d.tag != "" {
		f |= 1 << protocolConfig
	}
	return f
}

func (d *device) getProtocolFeatures(*message) ([]byte, error) {
	return u64Payload(d.protocolFeatures()), nil
}

func (d *device) setProtocolFeatures(m *message) ([]byte, error) {
	if f := m.u64(0) &^ d.protocolFeatures(); f != 0 {
		return nil, fmt.Errorf("protocol features %#x were not offered", f)
	}
	d.protocol = m.u64(0)
	return nil, nil
}

func (d *device) getQueueNum(*message) ([]byte, error) {
	return u64Payload(uint64(len(d.queues))), nil
}

func (d *device) setOwner(*message) ([]byte, error) { return nil, nil }

// resetOwner disables all rings, which is what the protocol recommends for this deprecated request.
func (d *device) resetOwner(*message) ([]byte, error) {
	for _, q := range d.queues {
		q.enable(false)
	}
	return nil, nil
}

func (d *device) getMaxMemSlots(*message) ([]byte, error) { return u64Payload(maxRegions), nil }

func (d *device) setMemTable(m *message) ([]byte, error) {
	if len(m.payload) < tableHeaderSize {
		return nil, fmt.Errorf("payload of %d bytes", len(m.payload))
	}
	n := int(min(m.u32(0), maxTableRegions+1))
	if n > maxTableRegions || len(m.payload) != tableHeaderSize+n*regionSize || len(m.fds) != n {
		return nil, fmt.Errorf("%d regions in %d bytes with %d descriptors", m.u32(0), len(m.payload), len(m.fds))
	}
	table := newMemory(nil)
	for i := range n {
		larger, err := table.with(m.fds[i], m.region(tableHeaderSize+i*regionSize))
		table.release()
		if err != nil {
			return nil, err
		}
		table = larger
	}
	return nil, d.setMemory(table)
}

func (d *device) addMemReg(m *message) ([]byte, error) {
	larger, err := d.memory.with(m.fds[0], m.region(regionHeaderSize))
	if err != nil {
		return nil, err
	}
	return nil, d.setMemory(larger)
}

// remMemReg accepts a descriptor, and leaves it to be closed: some front ends send one.
func (d *device) remMemReg(m *message) ([]byte, error) {
	if len(m.fds) > 1 {
		return nil, fmt.Errorf("comes with %d descriptors", len(m.fds))
	}
	smaller, err := d.memory.without(m.region(regionHeaderSize))
	if err != nil {
		return nil, err
	}
	return nil, d.setMemory(smaller)
}

// queue returns the queue of that index.
func (d *device) queue(index uint32) (*queue, error) {
	if index >= uint32(len(d.queues)) {
		return nil, fmt.Errorf("no queue %d, there are %d", index, len(d.queues))
	}
	return d.queues[index], nil
}

// setVring changes a queue that must not run meanwhile.
func (d *device) setVring(m *message, set func(q *queue, value uint32) error) ([]byte, error) {
	q, err := d.queue(m.u32(0))
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.poller != nil {
		return nil, fmt.Errorf("queue %d is running", q.index)
	}
	return nil, set(q, m.u32(4))
}

func (d *device) setVringNum(m *message) ([]byte, error) {
	return d.setVring(m, func(q *queue, n uint32) error {
		if n == 0 || n > maxRingSize || n&(n-1) != 0 {
			return fmt.Errorf("ring of %d entries: want a power of two up to %d", n, maxRingSize)
		}
		q.ring.size = int(n)
		return nil
	})
}

func (d *device) setVringBase(m *message) ([]byte, error) {
	return d.setVring(m, func(q *queue, n uint32) error {
		if n > 0xffff {
			return fmt.Errorf("index %#x has more than 16 bits", n)
		}
		q.ring.nextAvail = uint16(n)
		return nil
	})
}

func (d *device) setVringAddr(m *message) ([]byte, error) {
	q, err := d.queue(m.u32(0))
	if err != nil {
		return nil, err
	}
	if m.u32(4) != 0 {
		return nil, errors.New("logging was not offered")
	}
	q.mu.Lock()
	q.addresses = ringAddresses{desc: m.u64(8), used: m.u64(16), avail: m.u64(24)}
	q.placed = true
	q.mu.Unlock()
	if err := q.move(d.memory); err != nil {
		return nil, err
	}
	return nil, q.start()
}

// getVringBase stops the queue and says where it was; the front end waits for the answer, QEMU's power-off too.
func (d *device) getVringBase(m *message) ([]byte, error) {
	q, err := d.queue(m.u32(0))
	if err != nil {
		return nil, err
	}
	if err := q.stop(time.Now().Add(drainTimeout)); err != nil {
		d.log("vhost-user: %v", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	reply := binary.LittleEndian.AppendUint32(nil, m.u32(0))
	return binary.LittleEndian.AppendUint32(reply, uint32(q.ring.nextAvail)), nil
}

// vringFD returns the queue of a SET_VRING_KICK, CALL or ERR, and the descriptor that came with it or -1.
func (d *device) vringFD(m *message) (*queue, int, error) {
	q, err := d.queue(m.u32(0) & 0xff)
	if err != nil {
		return nil, -1, err
	}
	want := 1
	if m.u64(0)&noDescriptor != 0 {
		want = 0
	}
	if len(m.fds) != want {
		return nil, -1, fmt.Errorf("comes with %d descriptors, not %d", len(m.fds), want)
	}
	if want == 0 {
		return q, -1, nil
	}
	// Neither a kick that was already read nor a call that nobody reads may block this side.
	if err := unix.SetNonblock(m.fds[0], true); err != nil {
		return nil, -1, fmt.Errorf("set descriptor non-blocking: %w", err)
	}
	return q, m.take(0), nil
}

// setVringKick starts the queue. With no descriptor the ring is looked at once a millisecond.
func (d *device) setVringKick(m *message) ([]byte, error) {
	q, fd, err := d.vringFD(m)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	running := q.poller != nil
	if running {
		closeFD(&fd)
	} else {
		closeFD(&q.kick)
		q.kick, q.kickless = fd, fd < 0
	}
	q.mu.Unlock()
	if running {
		return nil, fmt.Errorf("queue %d is running", q.index)
	}
	return nil, q.start()
}

func (d *device) setVringCall(m *message) ([]byte, error) {
	return d.setSignal(m, func(q *queue) *int { return &q.call })
}

func (d *device) setVringErr(m *message) ([]byte, error) {
	return d.setSignal(m, func(q *queue) *int { return &q.errFD })
}

func (d *device) setSignal(m *message, which func(*queue) *int) ([]byte, error) {
	q, fd, err := d.vringFD(m)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	closeFD(which(q))
	*which(q) = fd
	return nil, nil
}

func (d *device) setVringEnable(m *message) ([]byte, error) {
	q, err := d.queue(m.u32(0))
	if err != nil {
		return nil, err
	}
	if m.u32(4) > 1 {
		return nil, fmt.Errorf("enable is %d, neither 0 nor 1", m.u32(4))
	}
	q.enable(m.u32(4) == 1)
	return nil, nil
}

// getConfig answers with struct virtio_fs_config: the tag, padded with zeros, and the number of request queues. An
// answer without payload says that there is no such part of it.
func (d *device) getConfig(m *message) ([]byte, error) {
	if len(m.payload) < configHeaderSize || len(m.payload) > configHeaderSize+maxConfigSize {
		return nil, fmt.Errorf("payload of %d bytes", len(m.payload))
	}
	config := make([]byte, maxConfigSize)
	copy(config[:tagSize], d.tag)
	binary.LittleEndian.PutUint32(config[tagSize:], uint32(len(d.queues)-1))
	offset, size := uint64(m.u32(0)), uint64(m.u32(4))
	if size != uint64(len(m.payload)-configHeaderSize) || offset+size > maxConfigSize {
		return nil, nil
	}
	return append(append([]byte{}, m.payload[:configHeaderSize]...), config[offset:offset+size]...), nil
}
