package fsx

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// maxSize is the most that the file grows to, in bytes.
const maxSize = 256 << 10

// pageSize is a page of memory's, of every architecture that mica runs on.
const pageSize = 4096

// A checker does operations on one file and on its model.
type checker struct {
	*rand.Rand
	path  string
	model []byte
	fd    int      // for reading and writing
	old   int      // for reading, opened before anything was written
	view  []byte   // a shared mapping of old's first page
	log   []string // the last operations
}

// newChecker opens the file at path, which has the given contents.
func newChecker(path string, contents []byte, seed uint64) (*checker, error) {
	c := &checker{Rand: rand.New(rand.NewPCG(seed, 0)), path: path, model: bytes.Clone(contents), fd: -1, old: -1}
	return c, c.open()
}

// open opens the file, first for reading alone: that descriptor and its mapping have to show what is written later too.
func (c *checker) open() error {
	var err error
	if c.old, err = unix.Open(c.path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s for reading: %w", c.path, err)
	}
	if len(c.model) > 0 {
		if c.view, err = unix.Mmap(c.old, 0, pageSize, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return fmt.Errorf("map %s: %w", c.path, err)
		}
		if err := c.checkView(); err != nil {
			return err
		}
	}
	return c.openWriter()
}

func (c *checker) openWriter() error {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if c.IntN(8) == 0 {
		flags |= unix.O_SYNC
	}
	var err error
	if c.fd, err = unix.Open(c.path, flags, 0); err != nil {
		return fmt.Errorf("open %s: %w", c.path, err)
	}
	return nil
}

func (c *checker) close() error {
	var err error
	if c.view != nil {
		err = unix.Munmap(c.view)
		c.view = nil
	}
	return errors.Join(err, unix.Close(c.fd), unix.Close(c.old))
}

// step does one operation. An error has the operations before it.
func (c *checker) step() error {
	op := operations[c.IntN(len(operations))]
	off := c.IntN(maxSize)
	if c.IntN(4) == 0 {
		off &^= pageSize - 1
	}
	length := 1 + c.IntN(min(maxSize-off, 1+c.IntN(64<<10)))
	if len(c.log) == 20 {
		c.log = c.log[1:]
	}
	c.log = append(c.log, fmt.Sprintf("%s %#x+%#x of %#x", op.name, off, length, len(c.model)))
	err := op.do(c, off, length)
	if err == nil {
		err = c.checkSize()
	}
	if err == nil {
		err = c.checkView()
	}
	if err != nil {
		return fmt.Errorf("%w, after %q", err, c.log)
	}
	return nil
}

// operations are as many as they are likely.
var operations = []struct {
	name string
	do   func(c *checker, off, length int) error
}{
	{"read", (*checker).read}, {"read old", (*checker).readOld}, {"mapped read", (*checker).mapRead},
	{"write", (*checker).write}, {"write", (*checker).write}, {"append", (*checker).append}, {"mapped write", (*checker).mapWrite},
	{"mapped write", (*checker).mapWrite}, {"private write", (*checker).mapPrivate},
	{"truncate", (*checker).truncate}, {"punch", (*checker).punch}, {"zero", (*checker).zero}, {"allocate", (*checker).allocate},
	{"copy", (*checker).copyRange}, {"direct read", (*checker).directRead}, {"direct write", (*checker).directWrite},
	{"fsync", (*checker).fsync}, {"reopen", (*checker).reopen},
}

func (c *checker) checkSize() error {
	var st unix.Stat_t
	if err := unix.Fstat(c.fd, &st); err != nil {
		return err
	}
	if int(st.Size) != len(c.model) {
		return fmt.Errorf("size is %#x, want %#x", st.Size, len(c.model))
	}
	return nil
}

// checkView reads the old mapping as far as the file reaches now.
func (c *checker) checkView() error {
	if c.view == nil {
		return nil
	}
	n := min(len(c.model), pageSize)
	return differ("old mapping", 0, c.view[:n], c.model[:n])
}

func differ(what string, off int, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("%s: byte %#x is %#x, want %#x", what, off+i, got[i], want[i])
		}
	}
	return fmt.Errorf("%s: %#x bytes at %#x, want %#x", what, len(got), off, len(want))
}

// at is what the model has from off on, length bytes at most.
func (c *checker) at(off, length int) []byte {
	off = min(off, len(c.model))
	return c.model[off:min(off+length, len(c.model))]
}

func (c *checker) read(off, length int) error {
	return c.readFrom("read", c.fd, make([]byte, length), off)
}

func (c *checker) readOld(off, length int) error {
	return c.readFrom("read by the old descriptor", c.old, make([]byte, length), off)
}

func (c *checker) readFrom(what string, fd int, buf []byte, off int) error {
	n, err := unix.Pread(fd, buf, int64(off))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return differ(what, off, buf[:n], c.at(off, len(buf)))
}

func (c *checker) data(length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(c.Uint32())
	}
	return data
}

// put changes the model as a write does.
func (c *checker) put(off int, data []byte) {
	c.grow(off + len(data))
	copy(c.model[off:], data)
}

func (c *checker) grow(size int) {
	if size > len(c.model) {
		c.model = append(c.model, make([]byte, size-len(c.model))...)
	}
}

func (c *checker) write(off, length int) error {
	data := c.data(length)
	if n, err := unix.Pwrite(c.fd, data, int64(off)); err != nil || n != length {
		return fmt.Errorf("write: %d, %w", n, err)
	}
	c.put(off, data)
	return nil
}

func (c *checker) append(_, length int) error {
	if length = min(length, maxSize-len(c.model)); length <= 0 {
		return nil
	}
	fd, err := unix.Open(c.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	data := c.data(length)
	n, err := unix.Write(fd, data)
	if err := errors.Join(err, unix.Close(fd)); err != nil || n != length {
		return fmt.Errorf("append: %d, %w", n, err)
	}
	c.put(len(c.model), data)
	return nil
}

// mapped calls f with a mapping of the part of the range that the file has.
func (c *checker) mapped(off, length, flags int, f func(part []byte, off int) error) error {
	length = len(c.at(off, length))
	if length == 0 {
		return nil
	}
	start := off &^ (pageSize - 1)
	memory, err := unix.Mmap(c.fd, int64(start), off+length-start, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return errors.Join(f(memory[off-start:], off), unix.Munmap(memory))
}

func (c *checker) mapRead(off, length int) error {
	return c.mapped(off, length, unix.MAP_SHARED, func(part []byte, off int) error {
		return differ("mapped read", off, part, c.at(off, len(part)))
	})
}

func (c *checker) mapWrite(off, length int) error {
	return c.mapped(off, length, unix.MAP_SHARED, func(part []byte, off int) error {
		data := c.data(len(part))
		copy(part, data)
		c.put(off, data)
		return nil
	})
}

// mapPrivate writes what nobody else must see.
func (c *checker) mapPrivate(off, length int) error {
	return c.mapped(off, length, unix.MAP_PRIVATE, func(part []byte, off int) error {
		copy(part, c.data(len(part)))
		buf := make([]byte, len(part))
		return c.readFrom("read after a private write", c.fd, buf, off)
	})
}

func (c *checker) truncate(off, _ int) error {
	var err error
	if c.IntN(2) == 0 {
		err = unix.Ftruncate(c.fd, int64(off))
	} else {
		err = unix.Truncate(c.path, int64(off))
	}
	if err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	c.model = c.model[:min(off, len(c.model))]
	// What was cut off is zeros when the file grows again.
	c.model = bytes.Clone(c.model)
	c.grow(off)
	return nil
}

func (c *checker) punch(off, length int) error {
	if err := unix.Fallocate(c.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(length)); err != nil {
		return fmt.Errorf("punch: %w", err)
	}
	clear(c.at(off, length))
	return nil
}

func (c *checker) zero(off, length int) error {
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if c.IntN(2) == 0 {
		mode |= unix.FALLOC_FL_KEEP_SIZE
	}
	if err := unix.Fallocate(c.fd, mode, int64(off), int64(length)); err != nil {
		return fmt.Errorf("zero: %w", err)
	}
	clear(c.at(off, length))
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		c.grow(off + length)
	}
	return nil
}

func (c *checker) allocate(off, length int) error {
	if err := unix.Fallocate(c.fd, 0, int64(off), int64(length)); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	c.grow(off + length)
	return nil
}

// copyRange copies what the file has at off to a place that does not overlap it.
func (c *checker) copyRange(off, length int) error {
	length = len(c.at(off, length))
	to := c.IntN(maxSize)
	if length == 0 || to+length > maxSize || to < off+length && off < to+length {
		return nil
	}
	in, out := int64(off), int64(to)
	n, err := unix.CopyFileRange(c.fd, &in, c.fd, &out, length, 0)
	if err != nil || n == 0 {
		return fmt.Errorf("copy: %d, %w", n, err)
	}
	c.put(to, bytes.Clone(c.at(off, n)))
	return nil
}

// direct calls f with a descriptor that bypasses the cache, and page-aligned memory.
func (c *checker) direct(off, length int, f func(fd, off int, buf []byte) error) error {
	off &^= pageSize - 1
	length = min((length+pageSize-1)&^(pageSize-1), maxSize-off)
	fd, err := unix.Open(c.path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open directly: %w", err)
	}
	buf, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return errors.Join(f(fd, off, buf), unix.Munmap(buf), unix.Close(fd))
}

func (c *checker) directRead(off, length int) error {
	return c.direct(off, length, func(fd, off int, buf []byte) error { return c.readFrom("direct read", fd, buf, off) })
}

func (c *checker) directWrite(off, length int) error {
	return c.direct(off, length, func(fd, off int, buf []byte) error {
		copy(buf, c.data(len(buf)))
		n, err := unix.Pwrite(fd, buf, int64(off))
		if err != nil || n != len(buf) {
			return fmt.Errorf("direct write: %d, %w", n, err)
		}
		c.put(off, buf)
		return nil
	})
}

func (c *checker) fsync(_, _ int) error { return unix.Fsync(c.fd) }

func (c *checker) reopen(_, _ int) error {
	if err := unix.Close(c.fd); err != nil {
		return err
	}
	return c.openWriter()
}
