package differential

import (
	"fmt"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/mount"
)

// slots is how many files may be open at a time.
const slots = 8

// A side is one of the two unions, and the thread that works in it: its root folder is the union's, so that links stay inside.
type side struct {
	mount mount.Mount
	ops   chan Op
	done  chan outcome
	open  [slots]int // descriptors; -1 when none
	root  int        // the host's root folder
}

// An outcome is all that an operation showed.
type outcome struct {
	result  string   // what the call returned
	touched []string // the files that it named, afterwards
	inodes  [2]inodes
	mtime   string // of the file in the operation's slot
	tree    tree   // if it was asked for
	err     error  // of the harness

	nameless bool // the file in the operation's slot has no name
}

// inodes are the numbers of an operation's Path and To, before and after; 0 is none.
type inodes struct{ before, after uint64 }

// What a side is asked for besides operations: its whole tree, to set the time of the file that an operation has opened or of the folder
// that its Path is in, and to close all that is open.
const (
	snapshot    Kind = "snapshot"
	touch       Kind = "touch"
	touchFolder Kind = "touch folder"
	closeFiles  Kind = "close files"
)

func newSide(m mount.Mount) (*side, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &side{mount: m, ops: make(chan Op), done: make(chan outcome), root: root}
	for i := range s.open {
		s.open[i] = -1
	}
	go s.work()
	if o := s.answer(); o.err != nil {
		return nil, o.err
	}
	return s, nil
}

// close lets go of the union and unmounts it.
func (s *side) close() error {
	close(s.ops)
	<-s.done
	return s.mount.Close()
}

func (s *side) answer() outcome { return <-s.done }

// work does what it is asked for. Its thread ends with it, since its root folder and user are like no other's.
func (s *side) work() {
	runtime.LockOSThread()
	defer close(s.done)
	defer unix.Close(s.root)
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = s.enter()
	}
	s.done <- outcome{err: err}
	for op := range s.ops {
		s.done <- s.do(op)
	}
	s.closeAll()
	_ = s.leave()
}

func (s *side) enter() error {
	if err := unix.Chroot(s.mount.Dir()); err != nil {
		return &os.PathError{Op: "chroot", Path: s.mount.Dir(), Err: err}
	}
	return unix.Chdir("/")
}

func (s *side) leave() error {
	if err := unix.Fchdir(s.root); err != nil {
		return err
	}
	return unix.Chroot(".")
}

func (s *side) closeAll() {
	for i, fd := range s.open {
		if fd >= 0 {
			_ = unix.Close(fd)
			s.open[i] = -1
		}
	}
}

func (s *side) do(op Op) (o outcome) {
	switch op.Kind {
	case snapshot:
		o.tree, o.err = readTree()
		return o
	case Remount:
		s.closeAll()
		if o.err = s.leave(); o.err == nil {
			o.err = s.mount.Remount()
		}
		if o.err == nil {
			o.err = s.enter()
		}
		return o
	case closeFiles:
		s.closeAll()
		return o
	}
	o.inodes[0].before, o.inodes[1].before = inodeOf(op.Path), inodeOf(op.To)
	err := as(op, func() {
		o.result = s.call(op)
	})
	if err != nil {
		o.err = err
		return o
	}
	o.inodes[0].after, o.inodes[1].after = inodeOf(op.Path), inodeOf(op.To)
	o.touched = s.look(op)
	o.mtime, o.nameless = s.lookInSlot(op.Slot)
	return o
}

// as does f as the operation's user and with its umask.
func as(op Op, f func()) error {
	unix.Umask(int(op.Umask))
	defer unix.Umask(0)
	if op.As == 0 {
		f()
		return nil
	}
	for _, id := range []int{op.As, 0} {
		if err := become(id); err != nil {
			return err
		}
		if id != 0 {
			f()
		}
	}
	return nil
}

// become changes the thread's identity towards filesystems.
func become(id int) error {
	// The group first: the user 0 has the right to change it either way.
	if _, err := unix.SetfsgidRetGid(id); err != nil {
		return fmt.Errorf("setfsgid: %w", err)
	}
	if _, err := unix.SetfsuidRetUid(id); err != nil {
		return fmt.Errorf("setfsuid: %w", err)
	}
	return nil
}

func inodeOf(name string) uint64 {
	var st unix.Stat_t
	if name == "" || unix.Lstat(name, &st) != nil {
		return 0
	}
	return st.Ino
}

// look describes what the operation named.
func (s *side) look(op Op) []string {
	var seen []string
	for _, name := range []string{op.Path, op.To} {
		if name == "" {
			continue
		}
		seen = append(seen, describeName(path.Dir(name)), describeName(name))
	}
	if op.usesSlot() || op.Kind == Open || op.Kind == touch {
		seen = append(seen, describeOpen(s.open[op.Slot]), describeOpen(s.open[op.Slot2]))
	}
	return seen
}

// lookInSlot gives the time of modification of an open file, "" of none, and whether the file has no name any more.
func (s *side) lookInSlot(slot int) (mtime string, nameless bool) {
	var st unix.Stat_t
	if s.open[slot] < 0 || unix.Fstat(s.open[slot], &st) != nil {
		return "", false
	}
	return describeTime(st.Mtim), st.Nlink == 0
}
