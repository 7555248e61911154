package crowd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	tokens     = 16         // files that are only ever renamed, so that none may be lost
	places     = 2 * tokens // names that they may have
	shared     = 8          // names that everybody makes and removes
	journal    = "journal"  // what everybody appends to
	recordSize = 16         // bytes of one record there
)

// workerVariable is set for a child that works: its job as JSON.
const workerVariable = "MICA_TEST_WORKER"

// A job is what one process does.
type job struct {
	Dir    string
	Number int
	Steps  int
}

// A report is what a process has left in the folder.
type report struct {
	Own     []string // names of its own, whose contents are themselves
	Records int      // in the journal
}

// workerMain does the job when the program was started for one, and then does not return.
func workerMain() {
	words := os.Getenv(workerVariable)
	if words == "" {
		return
	}
	w := worker{own: map[string]bool{}}
	err := json.Unmarshal([]byte(words), &w.job)
	if err == nil {
		err = w.run()
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(w.report())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "worker %d: %v\n", w.Number, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type worker struct {
	job
	*rand.Rand
	own     map[string]bool
	made    int
	records int
}

func (w *worker) report() report {
	r := report{Records: w.records}
	for name := range w.own {
		r.Own = append(r.Own, name)
	}
	return r
}

// run waits until standard input ends, so that all begin at once.
func (w *worker) run() error {
	w.Rand = rand.New(rand.NewPCG(uint64(w.Number), 0))
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	steps := []func() error{w.create, w.create, w.rename, w.remove, w.list, w.moveToken, w.moveToken, w.share, w.unshare, w.stat, w.append}
	for range w.Steps {
		if err := steps[w.IntN(len(steps))](); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) path(name string) string { return filepath.Join(w.Dir, name) }

func (w *worker) create() error {
	name := fmt.Sprintf("own-%d-%d", w.Number, w.made)
	w.made++
	w.own[name] = true
	return writeNew(w.path(name), name)
}

// writeNew makes a file that nobody else may have made.
func writeNew(path, contents string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(contents)
	return errors.Join(err, f.Close())
}

// any is one of its own names, or "".
func (w *worker) any() string {
	for name := range w.own {
		return name
	}
	return ""
}

// rename gives a file of its own another name, which the contents follow.
func (w *worker) rename() error {
	old := w.any()
	if old == "" {
		return nil
	}
	name := fmt.Sprintf("own-%d-%d", w.Number, w.made)
	w.made++
	if err := os.Rename(w.path(old), w.path(name)); err != nil {
		return err
	}
	delete(w.own, old)
	w.own[name] = true
	return os.WriteFile(w.path(name), []byte(name), 0o644)
}

func (w *worker) remove() error {
	name := w.any()
	if name == "" {
		return nil
	}
	delete(w.own, name)
	if err := os.Remove(w.path(name)); err != nil {
		return err
	}
	if _, err := os.Lstat(w.path(name)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is there after it was removed: %w", name, err)
	}
	return nil
}

// list checks that its own names are listed, each once. Others may come and go in the meantime, and then be seen twice.
func (w *worker) list() error {
	f, err := os.Open(w.Dir)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	seen := map[string]int{}
	for _, name := range names {
		seen[name]++
	}
	for name := range w.own {
		if seen[name] != 1 {
			return fmt.Errorf("%s is listed %d times", name, seen[name])
		}
	}
	return nil
}

func (w *worker) stat() error {
	name := w.any()
	if name == "" {
		return nil
	}
	info, err := os.Lstat(w.path(name))
	if err == nil && info.Size() != int64(len(name)) {
		err = fmt.Errorf("%s has %d bytes, want %d", name, info.Size(), len(name))
	}
	return err
}

// tokenName is one of the names that tokens may have.
func tokenName(i int) string { return fmt.Sprintf("token-%02d", i) }

// moveToken moves a token to a name that is free; others may have been faster.
func (w *worker) moveToken() error {
	from, to := w.path(tokenName(w.IntN(places))), w.path(tokenName(w.IntN(places)))
	if w.IntN(4) == 0 {
		return ignore(unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE), unix.ENOENT)
	}
	return ignore(unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE), unix.ENOENT, unix.EEXIST)
}

func (w *worker) sharedPath() string { return w.path(fmt.Sprintf("shared-%d", w.IntN(shared))) }

func (w *worker) share() error {
	switch w.IntN(4) {
	case 0:
		return ignore(os.Mkdir(w.sharedPath(), 0o755), unix.EEXIST)
	case 1:
		return ignore(os.Symlink("nowhere", w.sharedPath()), unix.EEXIST)
	case 2:
		return ignore(os.Link(w.sharedPath(), w.sharedPath()), unix.EEXIST, unix.ENOENT, unix.EPERM)
	}
	return ignore(writeNew(w.sharedPath(), "shared"), unix.EEXIST)
}

func (w *worker) unshare() error {
	if w.IntN(2) == 0 {
		return ignore(os.Rename(w.sharedPath(), w.sharedPath()), unix.ENOENT, unix.EEXIST, unix.EISDIR, unix.ENOTDIR)
	}
	return ignore(os.Remove(w.sharedPath()), unix.ENOENT, unix.ENOTDIR, unix.EISDIR)
}

// append adds a record to the journal in one write.
func (w *worker) append() error {
	f, err := os.OpenFile(w.path(journal), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(record(w.Number, w.records))
	w.records++
	return errors.Join(err, f.Close())
}

func record(number, i int) string { return fmt.Sprintf("%06d-%08d\n", number, i) }

// ignore gives the error unless it is one that others can be the cause of.
func ignore(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}
