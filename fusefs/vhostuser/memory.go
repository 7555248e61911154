package vhostuser

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxRegions is how many memory regions a front end may have at once: what QEMU uses at most (VHOST_USER_MAX_RAM_SLOTS).
const maxRegions = 509

var errNotMapped = errors.New("address range is not in guest memory")

// regionRange says where one memory region is: in the guest's physical memory, in the front end's address space
// and in the file that backs it. All in bytes.
type regionRange struct {
	guest, size, user, offset uint64
}

func (r regionRange) check() error {
	switch {
	case r.size == 0:
		return errors.New("memory region is empty")
	case r.size > math.MaxInt64/2 || r.offset > math.MaxInt64/2:
		return fmt.Errorf("memory region of %#x bytes at offset %#x is too large", r.size, r.offset)
	case r.guest+r.size < r.guest || r.user+r.size < r.user:
		return fmt.Errorf("memory region of %#x bytes at %#x (front end %#x) wraps around", r.size, r.guest, r.user)
	}
	return nil
}

func (r regionRange) overlaps(o regionRange) bool {
	return r.guest < o.guest+o.size && o.guest < r.guest+r.size ||
		r.user < o.user+o.size && o.user < r.user+r.size
}

// region is one mapped memory region. It is unmapped when the last memory that holds it is released.
type region struct {
	regionRange
	data    []byte // the region's bytes, data[0] at guest address guest
	mapping []byte // what was mapped: data and what comes before it in its page
	users   atomic.Int64
}

// mapRegion maps the region backed by fd, which stays the caller's; r was checked.
func mapRegion(fd int, r regionRange) (*region, error) {
	// A mapping beyond the end of the file would kill with SIGBUS at its first use.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat memory region: %w", err)
	}
	// Nor may a page be one that this process would have to answer for as a FUSE server.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return nil, fmt.Errorf("stat memory region: %w", err)
	}
	if fs.Type == unix.FUSE_SUPER_MAGIC {
		return nil, errors.New("memory region is in a file of a FUSE filesystem")
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && uint64(st.Size) < r.offset+r.size {
		return nil, fmt.Errorf("memory region ends at %#x, beyond its file of %#x bytes", r.offset+r.size, st.Size)
	}
	lead := r.offset % uint64(unix.Getpagesize())
	mapping, err := unix.Mmap(fd, int64(r.offset-lead), int(r.size+lead), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map memory region: %w", err)
	}
	unix.Madvise(mapping, unix.MADV_DONTDUMP) // only keeps guest memory out of a core file
	return &region{regionRange: r, data: mapping[lead:], mapping: mapping}, nil
}

func (r *region) release() {
	if r.users.Add(-1) == 0 {
		unix.Munmap(r.mapping)
	}
}

// memory is an immutable table of regions, sorted by guest address. Whoever hands out slices of it holds it, so
// that a region the front end takes away stays mapped until the requests in it are done.
type memory struct {
	regions []*region
	users   atomic.Int64
}

// newMemory holds its regions; the caller holds the new memory.
func newMemory(regions []*region) *memory {
	slices.SortFunc(regions, func(a, b *region) int {
		if a.guest < b.guest {
			return -1
		}
		return 1
	})
	for _, r := range regions {
		r.users.Add(1)
	}
	m := &memory{regions: regions}
	m.users.Store(1)
	return m
}

// hold may be called by whoever knows that somebody holds m.
func (m *memory) hold() *memory {
	m.users.Add(1)
	return m
}

func (m *memory) release() {
	if m.users.Add(-1) > 0 {
		return
	}
	for _, r := range m.regions {
		r.release()
	}
}

// with maps the region backed by fd and returns a memory of m's regions and it. The descriptor stays the caller's.
func (m *memory) with(fd int, r regionRange) (*memory, error) {
	if len(m.regions) >= maxRegions {
		return nil, fmt.Errorf("more than %d memory regions", maxRegions)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	for _, o := range m.regions {
		if o.overlaps(r) {
			return nil, fmt.Errorf("memory region %#x+%#x overlaps %#x+%#x", r.guest, r.size, o.guest, o.size)
		}
	}
	mapped, err := mapRegion(fd, r)
	if err != nil {
		return nil, err
	}
	return newMemory(append(slices.Clone(m.regions), mapped)), nil
}

// without returns a memory of m's regions but the one at r. The offset is not compared: the protocol identifies a
// region by guest address, user address and size.
func (m *memory) without(r regionRange) (*memory, error) {
	i := slices.IndexFunc(m.regions, func(o *region) bool {
		return o.guest == r.guest && o.user == r.user && o.size == r.size
	})
	if i < 0 {
		return nil, fmt.Errorf("no memory region %#x+%#x", r.guest, r.size)
	}
	return newMemory(slices.Delete(slices.Clone(m.regions), i, i+1)), nil
}

// find returns the region that holds guest address addr, or nil.
func (m *memory) find(addr uint64) *region {
	low, high := 0, len(m.regions)
	for low < high {
		mid := (low + high) / 2
		if r := m.regions[mid]; addr-r.guest < r.size {
			return r
		} else if addr < r.guest {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return nil
}

// guest appends the guest's n bytes at addr to segments: one for each region the range crosses.
func (m *memory) guest(segments [][]byte, addr, n uint64) ([][]byte, error) {
	if addr+n < addr {
		return segments, errNotMapped
	}
	for n > 0 {
		r := m.find(addr)
		if r == nil {
			return segments, errNotMapped
		}
		segment := r.data[addr-r.guest:]
		segment = segment[:min(n, uint64(len(segment)))]
		segments = append(segments, segment)
		addr += uint64(len(segment))
		n -= uint64(len(segment))
	}
	return segments, nil
}

// user returns the n bytes at the front end's address addr, which have to be in one region.
func (m *memory) user(addr, n uint64) ([]byte, error) {
	for _, r := range m.regions {
		if off := addr - r.user; off < r.size && n <= r.size-off {
			return r.data[off : off+n : off+n], nil
		}
	}
	return nil, errNotMapped
}
