package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// The layout of a split virtqueue (virtio 1.2, section 2.7). All fields are little-endian.
const (
	descriptorSize = 16
	usedEntrySize  = 8
	maxRingSize    = 1024 // QEMU's VIRTQUEUE_MAX_SIZE; also what preadv takes at once

	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
	usedNoNotify     = 1
)

// ringAddresses says where a ring is in the front end's address space.
type ringAddresses struct {
	desc, used, avail uint64
}

// ring is the three parts of a split virtqueue in guest memory, and how far this side is in them. The guest can
// change every byte at any time: each field is loaded once, and checked after that.
type ring struct {
	size        int // entries, a power of two
	desc        []byte
	avail, used []byte
	eventIdx    bool

	nextAvail uint16 // the next entry of avail to take
	nextUsed  uint16 // the next entry of used to write
	usedFlags uint16
	signalled uint16 // value of nextUsed at the last call
	everSent  bool   // whether signalled means something

	table    []byte   // private copy of the indirect table being walked
	segments [][]byte // where it is in guest memory
}

// place finds the parts of the ring in m.
func (r *ring) place(m *memory, a ringAddresses) (err error) {
	if a.desc%16 != 0 || a.avail%2 != 0 || a.used%4 != 0 {
		return fmt.Errorf("ring at %#x, %#x, %#x is not aligned", a.desc, a.avail, a.used)
	}
	size := uint64(r.size)
	if r.desc, err = m.user(a.desc, descriptorSize*size); err != nil {
		return fmt.Errorf("descriptors at %#x: %w", a.desc, err)
	}
	if r.avail, err = m.user(a.avail, 6+2*size); err != nil {
		return fmt.Errorf("available ring at %#x: %w", a.avail, err)
	}
	if r.used, err = m.user(a.used, 6+usedEntrySize*size); err != nil {
		return fmt.Errorf("used ring at %#x: %w", a.used, err)
	}
	// A region that starts within a page can misalign what its addresses align.
	if misaligned(r.desc, 8) || misaligned(r.avail, 2) || misaligned(r.used, 4) {
		return errors.New("ring is not aligned in its memory region")
	}
	return nil
}

func misaligned(b []byte, to uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%to != 0
}

// start takes up the used ring where the guest's memory says it is.
func (r *ring) start() {
	r.nextUsed = load16(r.used, 2)
	r.usedFlags = 0
	r.everSent = false
}

// pending says how many entries the guest has made available.
func (r *ring) pending() (int, error) {
	n := int(load16(r.avail, 2) - r.nextAvail)
	if n > r.size {
		return 0, fmt.Errorf("guest made %d entries of a ring of %d available", n, r.size)
	}
	return n, nil
}

// take returns the head of the next available chain; pending has to be positive.
func (r *ring) take() (uint16, error) {
	head := load16(r.avail, 4+2*(int(r.nextAvail)&(r.size-1)))
	if int(head) >= r.size {
		return 0, fmt.Errorf("descriptor %d of a ring of %d", head, r.size)
	}
	r.nextAvail++
	return head, nil
}

// wantKicks asks the guest to kick when it makes more available. Only after that may the caller look at pending a
// last time and go to sleep: the stores and loads here are sequentially consistent.
func (r *ring) wantKicks() {
	if r.eventIdx {
		store16(r.used, 4+usedEntrySize*r.size, r.nextAvail)
		return
	}
	r.usedFlags = 0
	r.publish()
}

// refuseKicks spares the guest its kicks while its ring is looked at anyway. With event-idx the old event does that.
func (r *ring) refuseKicks() {
	if !r.eventIdx && r.usedFlags != usedNoNotify {
		r.usedFlags = usedNoNotify
		r.publish()
	}
}

// put gives the chain at head back to the guest with n bytes written.
func (r *ring) put(head uint16, n int) {
	entry := r.used[4+usedEntrySize*(int(r.nextUsed)&(r.size-1)):]
	binary.LittleEndian.PutUint32(entry, uint32(head))
	binary.LittleEndian.PutUint32(entry[4:], uint32(n))
	r.nextUsed++
	r.publish()
}

// publish stores flags and index of the used ring together: they are one aligned word, and only this side writes it.
func (r *ring) publish() {
	word := (*uint32)(unsafe.Pointer(&r.used[0]))
	atomic.StoreUint32(word, uint32(r.usedFlags)|uint32(r.nextUsed)<<16)
}

// wantsCall says whether the guest has to be told of what was put since the last time.
func (r *ring) wantsCall() bool {
	if !r.eventIdx {
		return load16(r.avail, 0)&availNoInterrupt == 0
	}
	old, sent := r.signalled, r.everSent
	r.signalled, r.everSent = r.nextUsed, true
	event := load16(r.avail, 4+2*r.size)
	return !sent || r.nextUsed-event-1 < r.nextUsed-old
}

// descriptor is one entry of a descriptor table.
type descriptor struct {
	addr        uint64
	length      uint32
	flags, next uint16
}

func (r *ring) descriptor(i uint16) descriptor {
	entry := r.desc[int(i)*descriptorSize:][:descriptorSize]
	low := atomic.LoadUint64((*uint64)(unsafe.Pointer(&entry[8])))
	return descriptor{
		addr:   atomic.LoadUint64((*uint64)(unsafe.Pointer(&entry[0]))),
		length: uint32(low), flags: uint16(low >> 32), next: uint16(low >> 48),
	}
}

func parseDescriptor(b []byte) descriptor {
	return descriptor{
		addr:   binary.LittleEndian.Uint64(b),
		length: binary.LittleEndian.Uint32(b[8:]),
		flags:  binary.LittleEndian.Uint16(b[12:]),
		next:   binary.LittleEndian.Uint16(b[14:]),
	}
}

// word returns the aligned 32 bits around the 16 at b[off], and how far to shift them. Go has no atomic operations
// on 16 bits; the word never leaves the page, so it is mapped too.
func word(b []byte, off int) (*uint32, int) {
	p := unsafe.Pointer(&b[off : off+2][0])
	odd := uintptr(p) & 2
	return (*uint32)(unsafe.Add(p, -int(odd))), int(odd) * 8
}

func load16(b []byte, off int) uint16 {
	w, shift := word(b, off)
	return uint16(atomic.LoadUint32(w) >> shift)
}

// store16 leaves the other half of the word as it is, whoever it belongs to.
func store16(b []byte, off int, v uint16) {
	w, shift := word(b, off)
	for {
		old := atomic.LoadUint32(w)
		if atomic.CompareAndSwapUint32(w, old, old&^(0xffff<<shift)|uint32(v)<<shift) {
			return
		}
	}
}
