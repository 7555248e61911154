package durability

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// blockSize is what every write writes.
const blockSize = 4096

// A step is one system call or a few that change one thing: it has happened or it has not.
type step struct {
	name  string
	do    func(root string) error
	apply func(s *state)
}

// A worker changes a folder of its own, and knows what it should be.
type worker struct {
	folder string
	random *rand.Rand
	state  *state
	serial int
	under  *step // not known to have happened
}

func newWorker(lower string, number int, seed uint64) (*worker, error) {
	w := &worker{folder: fmt.Sprintf("w%d", number), random: rand.New(rand.NewPCG(seed, uint64(number))), state: newState()}
	return w, w.makeLower(filepath.Join(lower, w.folder))
}

func (w *worker) makeLower(dir string) error {
	w.state.folders["d"], w.state.folders["d/e"] = true, true
	if err := os.MkdirAll(filepath.Join(dir, "d/e"), 0o755); err != nil {
		return err
	}
	for i, name := range []string{"f0", "f1", "f2", "d/f3", "d/f4", "d/e/f5", "d/e/f6"} {
		data := w.block()
		if i%3 == 0 { // one whose copy-up takes a while
			data += strings.Repeat("the rest of a bigger file\n", 1<<15)
		}
		w.state.add(name, data)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"l0", "d/l1"} {
		w.state.files[name] = w.state.files["f2"]
		if err := os.Link(filepath.Join(dir, "f2"), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// block is new contents, which are in no other file.
func (w *worker) block() string {
	w.serial++
	line := fmt.Sprintf("%s %d\n", w.folder, w.serial)
	return strings.Repeat(line, blockSize/len(line)+1)[:blockSize]
}

func (w *worker) pick(m []string) string { return m[w.random.IntN(len(m))] }

func (w *worker) newName() string {
	w.serial++
	dirs := append(slices.Sorted(maps.Keys(w.state.folders)), "")
	return filepath.Join(w.pick(dirs), fmt.Sprintf("n%d", w.serial))
}

// next chooses a step that can be done.
func (w *worker) next() step {
	files := slices.Sorted(maps.Keys(w.state.files))
	folders := slices.Sorted(maps.Keys(w.state.folders))
	kind := w.random.IntN(11)
	if len(files) < 3 {
		kind = 0
	}
	switch kind {
	case 0:
		return makeFile(w.newName())
	case 1, 2, 3, 4:
		return write(w.pick(files), w.block())
	case 5:
		return w.rename(w.pick(files), w.pick(append(files, w.newName(), w.newName())))
	case 6:
		return remove(w.pick(files))
	case 7:
		return changeMode(w.pick(files), 0o600|uint32(w.random.IntN(0o100)))
	case 8:
		return link(w.pick(files), w.newName())
	case 9:
		if len(folders) == 0 || w.random.IntN(2) == 0 {
			return makeFolder(w.newName())
		}
		folder := w.pick(folders)
		if w.state.empty(folder) {
			return removeFolder(folder)
		}
		w.serial++
		return w.rename(folder, filepath.Join(filepath.Dir(folder), fmt.Sprintf("m%d", w.serial)))
	}
	return cut(w.pick(files))
}

func makeFile(name string) step {
	return step{"create " + name, func(root string) error {
		f, err := os.OpenFile(filepath.Join(root, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}, func(s *state) { s.add(name, "") }}
}

func write(name, data string) step {
	return step{"write " + name, func(root string) error {
		f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(data)
		return errors.Join(err, f.Close())
	}, func(s *state) { id := s.files[name]; s.data[id] = overwritten(s.data[id], data) }}
}

func cut(name string) step {
	return step{"truncate " + name, func(root string) error { return os.Truncate(filepath.Join(root, name), 0) },
		func(s *state) { s.data[s.files[name]] = "" }}
}

func remove(name string) step {
	return step{"unlink " + name, func(root string) error { return unix.Unlink(filepath.Join(root, name)) },
		func(s *state) { delete(s.files, name) }}
}

func changeMode(name string, mode uint32) step {
	return step{"chmod " + name, func(root string) error { return unix.Chmod(filepath.Join(root, name), mode) },
		func(s *state) { s.mode[s.files[name]] = mode }}
}

func link(old, name string) step {
	return step{"link " + old + " " + name, func(root string) error { return os.Link(filepath.Join(root, old), filepath.Join(root, name)) },
		func(s *state) { s.files[name] = s.files[old] }}
}

func makeFolder(name string) step {
	return step{"mkdir " + name, func(root string) error { return os.Mkdir(filepath.Join(root, name), 0o755) },
		func(s *state) { s.folders[name] = true }}
}

func removeFolder(name string) step {
	return step{"rmdir " + name, func(root string) error { return unix.Rmdir(filepath.Join(root, name)) },
		func(s *state) { delete(s.folders, name) }}
}

func (w *worker) rename(old, name string) step {
	if a, ok := w.state.files[old]; ok && a == w.state.files[name] {
		name = w.newName() // two names of one file: nothing would happen
	}
	return step{"rename " + old + " " + name, func(root string) error {
		return unix.Rename(filepath.Join(root, old), filepath.Join(root, name))
	}, func(s *state) { s.move(old, name) }}
}

// work does steps until the server is dead.
func (w *worker) work(mount string, done func()) error {
	root := filepath.Join(mount, w.folder)
	for {
		s := w.next()
		w.under = &s
		err := s.do(root)
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", w.folder, s.name, err)
		}
		s.apply(w.state)
		w.under = nil
		done()
	}
}

// check compares the tree of a new start with what it should be, with and without the step that was under way.
func (w *worker) check(c client) error {
	got, err := c.treeLines(w.folder)
	if err != nil {
		return fmt.Errorf("%s: %w", w.folder, err)
	}
	before := w.state.lines()
	if slices.Equal(got, before) {
		return nil
	}
	if w.under == nil {
		return fmt.Errorf("%s:%s", w.folder, difference(got, before))
	}
	after := w.state.clone()
	w.under.apply(after)
	if !slices.Equal(got, after.lines()) {
		return fmt.Errorf("%s, %s under way:%s", w.folder, w.under.name, difference(got, after.lines()))
	}
	return nil
}
