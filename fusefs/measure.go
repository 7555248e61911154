package fusefs

import "golang.org/x/sys/unix"

// A measurer adds up the blocks of files, folder by folder. It goes down and up again with one descriptor: a guest can make folders
// in folders without end.
type measurer struct {
	dir   *descriptor
	left  [][]string      // folders still to go to: those in the top folder first, those in dir last
	seen  map[uint64]bool // files of several names
	total int64
}

// measure is the blocks, in bytes, of the files below the folder top, each counted once. Nobody else changes it.
func measure(top *descriptor) (int64, error) {
	top.hold()
	m := measurer{dir: top, seen: make(map[uint64]bool)}
	defer func() { m.dir.release() }()
	for {
		if err := m.list(); err != nil {
			return 0, err
		}
		for len(m.here()) == 0 {
			if m.left = m.left[:len(m.left)-1]; len(m.left) == 0 {
				return m.total, nil
			}
			if err := m.move(unix.Openat(m.dir.fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)); err != nil {
				return 0, err
			}
		}
		name := m.here()[0]
		m.left[len(m.left)-1] = m.here()[1:]
		if err := m.move(openBeneath(m.dir.fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)); err != nil {
			return 0, err
		}
	}
}

// here is what is left to go to in dir.
func (m *measurer) here() []string { return m.left[len(m.left)-1] }

func (m *measurer) move(fd int, err error) error {
	if err != nil {
		return err
	}
	m.dir.release()
	m.dir = &descriptor{fd: fd, pool: &descriptors{}}
	m.dir.refs.Store(1)
	return nil
}

// list counts the files in dir, and remembers its folders.
func (m *measurer) list() error {
	var folders []string
	err := readFolder(spot{dir: m.dir}, func(name string, _ uint64, _ uint32) error {
		var st unix.Stat_t
		if err := (spot{dir: m.dir, name: name}).stat(&st); err != nil {
			return err
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			folders = append(folders, name)
		case !m.seen[st.Ino]:
			m.total += st.Blocks * 512
			if st.Nlink > 1 {
				m.seen[st.Ino] = true
			}
		}
		return nil
	})
	m.left = append(m.left, folders)
	return err
}
