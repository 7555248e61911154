package vhostuser

import (
	"errors"
	"fmt"
)

// spareSegments is how many more pieces than descriptors a chain may have because its buffers cross memory regions.
const spareSegments = 16

// chain is one descriptor chain: what the guest wrote for us, then what we may write, as slices of guest memory.
type chain struct {
	head            uint16
	in, out         [][]byte
	inSize, outSize int
}

// walk follows the chain at head. At most ring.size descriptors are followed, so that a cycle ends; an error means
// that the guest broke the rules of the queue.
func (c *chain) walk(r *ring, m *memory, head uint16) error {
	c.head, c.in, c.out, c.inSize, c.outSize = head, c.in[:0], c.out[:0], 0, 0
	d := r.descriptor(head)
	next := func(i uint16) (descriptor, error) {
		if int(i) >= r.size {
			return descriptor{}, fmt.Errorf("descriptor %d of a ring of %d", i, r.size)
		}
		return r.descriptor(i), nil
	}
	for n := 1; ; n++ {
		if n > r.size {
			return fmt.Errorf("descriptor chain is longer than its ring of %d", r.size)
		}
		if d.flags&descIndirect != 0 {
			if d.flags&(descNext|descWrite) != 0 {
				return errors.New("indirect descriptor with other flags")
			}
			return c.walkTable(r, m, d, n)
		}
		if err := c.add(r, m, d); err != nil {
			return err
		}
		if d.flags&descNext == 0 {
			return nil
		}
		var err error
		if d, err = next(d.next); err != nil {
			return err
		}
	}
}

// walkTable follows the rest of a chain, of which n descriptors were followed, in the indirect table at d.
func (c *chain) walkTable(r *ring, m *memory, d descriptor, n int) error {
	entries := int(d.length / descriptorSize)
	if d.length == 0 || d.length%descriptorSize != 0 || entries > r.size {
		return fmt.Errorf("indirect table of %d bytes for a ring of %d", d.length, r.size)
	}
	segments, err := m.guest(r.segments[:0], d.addr, uint64(d.length))
	if err != nil {
		return fmt.Errorf("indirect table at %#x: %w", d.addr, err)
	}
	r.segments = segments
	r.table = r.table[:0]
	for _, s := range segments {
		r.table = append(r.table, s...)
	}
	for i := uint16(0); ; n++ {
		if int(i) >= entries {
			return fmt.Errorf("descriptor %d of an indirect table of %d", i, entries)
		}
		if n > r.size {
			return fmt.Errorf("descriptor chain is longer than its ring of %d", r.size)
		}
		d := parseDescriptor(r.table[int(i)*descriptorSize:])
		if d.flags&descIndirect != 0 {
			return errors.New("indirect descriptor in an indirect table")
		}
		if err := c.add(r, m, d); err != nil {
			return err
		}
		if d.flags&descNext == 0 {
			return nil
		}
		i = d.next
	}
}

// add appends the buffer of one descriptor.
func (c *chain) add(r *ring, m *memory, d descriptor) (err error) {
	if d.length == 0 {
		return errors.New("descriptor of no bytes")
	}
	if d.flags&descWrite != 0 {
		c.out, err = m.guest(c.out, d.addr, uint64(d.length))
		c.outSize += int(d.length)
	} else {
		if c.outSize > 0 {
			return errors.New("descriptor to read after one to write")
		}
		c.in, err = m.guest(c.in, d.addr, uint64(d.length))
		c.inSize += int(d.length)
	}
	if err != nil {
		return fmt.Errorf("buffer of %d bytes at %#x: %w", d.length, d.addr, err)
	}
	if n := len(c.in) + len(c.out); n > r.size+spareSegments {
		return fmt.Errorf("descriptor chain of %d pieces", n)
	}
	return nil
}

// copyIn copies the start of segments into dst and returns how much there was.
func copyIn(dst []byte, segments [][]byte) int {
	n := 0
	for _, s := range segments {
		n += copy(dst[n:], s)
		if n == len(dst) {
			break
		}
	}
	return n
}

// copyOut copies src into segments and returns how much there was room for.
func copyOut(segments [][]byte, src []byte) int {
	n := 0
	for _, s := range segments {
		if n == len(src) {
			break
		}
		n += copy(s, src[n:])
	}
	return n
}

// skip appends segments without their first n bytes to dst.
func skip(dst, segments [][]byte, n int) [][]byte {
	for _, s := range segments {
		if n >= len(s) {
			n -= len(s)
			continue
		}
		dst = append(dst, s[n:])
		n = 0
	}
	return dst
}
