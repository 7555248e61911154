package durability

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// A scenario is one operation, any system call of which may fail.
type scenario struct {
	name    string
	prepare func(c client) error // nil: nothing
	run     func(c client) error
	cuts    bool // contents are cut off first: when a later call fails, they stay so
}

// all does one thing after the other.
func all(steps ...func(c client) error) func(c client) error {
	return func(c client) error {
		for _, step := range steps {
			if err := step(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func chmod(name string) func(client) error {
	return func(c client) error { return c.chmod(name, 0o4711) }
}
func unlink(name string) func(client) error { return func(c client) error { return c.unlink(name) } }
func mkdir(name string) func(client) error  { return func(c client) error { return c.mkdir(name) } }
func rmdir(name string) func(client) error  { return func(c client) error { return c.rmdir(name) } }
func create(name string) func(client) error {
	return func(c client) error { return c.create(name, "created") }
}
func createEmpty(name string) func(client) error {
	return func(c client) error { return c.create(name, "") }
}
func openToWrite(name string) func(client) error {
	return func(c client) error { return c.overwrite(name, "") }
}
func truncate(name string, size uint64) func(client) error {
	return func(c client) error { return c.truncate(name, size) }
}
func rename(old, name string, flags uint32) func(client) error {
	return func(c client) error { return c.rename(old, name, flags) }
}

const exchange = unix.RENAME_EXCHANGE

// scenarios work on the tree of makeLower.
var scenarios = []scenario{
	{"copy-up", nil, openToWrite("d/file"), false},
	{"copy-up of a sparse file", nil, openToWrite("d/sparse"), false},
	{"copy-up in folders", nil, openToWrite("d/e/f/deep"), false},
	{"copy-up of metadata", nil, chmod("d/file"), false},
	{"copy-up of a folder's metadata", nil, chmod("d/e"), false},
	{"copy-up of a link", nil, func(c client) error { return c.chown("d/link", 7, 8) }, false},
	{"contents after metadata", chmod("d/file"), openToWrite("d/file"), false},
	{"copy-up to nothing", nil, truncate("d/file", 0), true},
	{"truncation to nothing after metadata", chmod("d/file"), truncate("d/file", 0), true},
	{"truncation of a lower file", nil, truncate("d/file", 100), true},
	{"copy-up of hard links", nil, openToWrite("d/hard1"), false},
	{"copy-up of hard links' metadata", nil, chmod("d/hard1"), false},
	{"attribute", nil, func(c client) error { return c.setxattr("d/file", "user.new", "value") }, false},
	{"unlink of a lower file", nil, unlink("d/file"), false},
	{"unlink of a copied file", openToWrite("d/file"), unlink("d/file"), false},
	{"unlink of an upper file", create("d/new"), unlink("d/new"), false},
	{"unlink of a lower hard link", nil, unlink("d/hard1"), false},
	{"rmdir of a lower folder", nil, rmdir("d/empty"), false},
	{"rmdir of an upper folder", mkdir("d/new"), rmdir("d/new"), false},
	{"rmdir over whiteouts", unlink("d/e/f/deep"), rmdir("d/e/f"), false},
	{"rename of a lower file", nil, rename("d/file", "d/e/moved", 0), false},
	{"rename of an upper file", create("d/new"), rename("d/new", "d/moved", 0), false},
	{"rename onto a lower file", create("d/new"), rename("d/new", "d/file", 0), false},
	{"rename of a lower file onto another", nil, rename("d/file", "d/other", 0), false},
	{"rename of a lower folder", nil, rename("d/e", "d/moved", 0), false},
	{"rename of an upper folder", mkdir("d/new"), rename("d/new", "d/moved", 0), false},
	{"rename of a folder onto an empty one", nil, rename("d/e", "d/empty", 0), false},
	{"rename of a folder onto whiteouts", all(unlink("d/e/f/deep"), mkdir("d/new")), rename("d/new", "d/e/f", 0), false},
	{"rename of a folder onto a whiteout", all(unlink("d/file"), mkdir("d/new")), rename("d/new", "d/file", 0), false},
	{"rename of a hard link", nil, rename("d/hard1", "d/moved", 0), false},
	{"exchange", nil, rename("d/file", "d/e", exchange), false},
	{"exchange of folders", mkdir("d/new"), rename("d/new", "d/e", exchange), false},
	{"create", nil, createEmpty("d/new"), false},
	{"create over a whiteout", unlink("d/file"), createEmpty("d/file"), false},
	{"mkdir", nil, mkdir("d/new"), false},
	{"mkdir over a whiteout", rmdir("d/empty"), mkdir("d/empty"), false},
	{"symlink", nil, func(c client) error { return c.symlink("target", "d/new") }, false},
	{"link", nil, func(c client) error { return c.link("d/file", "d/new") }, false},
	{"link over a whiteout", unlink("d/other"), func(c client) error { return c.link("d/file", "d/other") }, false},
	{"chmod of an upper file", create("d/new"), chmod("d/new"), false},
	{"chown of an upper file", create("d/new"), func(c client) error { return c.chown("d/new", 7, 8) }, false},
	{"chmod back to the host's", all(create("d/new"), chmod("d/new")), func(c client) error { return c.chmod("d/new", 0o644) }, false},
}

// makeLower makes the layer that all scenarios have.
func makeLower(dir string) error {
	big := strings.Repeat("contents\n", 20_000)
	for name, contents := range map[string]string{
		"d/file": big, "d/other": "other", "d/e/f/deep": "deep", "d/e/file": "file", "d/hard1": big, "d/f": "f", "g/file": "file",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, "d/file")
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "d/empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "d/sparse"), []byte("start"), 0o644),
		os.Truncate(filepath.Join(dir, "d/sparse"), 1<<20),
		os.Symlink("file", filepath.Join(dir, "d/link")),
		os.Link(filepath.Join(dir, "d/hard1"), filepath.Join(dir, "d/hard2")),
		os.Link(filepath.Join(dir, "d/hard1"), filepath.Join(dir, "g/hard3")),
		unix.Setxattr(file, "user.attribute", []byte("value"), 0),
		os.Chown(file, 1000, 1000),
	} {
		if err != nil {
			return err
		}
	}
	return makeOld(dir)
}

// makeOld gives all below dir the time longAgo.
func makeOld(dir string) error {
	old := unix.NsecToTimespec(longAgo * int64(time.Second))
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	for _, path := range paths {
		if err == nil {
			err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, old}, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	return err
}

// An outcome is what a run of a scenario tells.
type outcome struct {
	Before, After []string
	Status        unix.Errno // of the operation
	Retry         unix.Errno // of the operation again, where it failed
	Retried       []string
	Leaked        int // descriptors
}

// Names that no file has: access to them is seen in the trace.
const (
	beginMark = "/mica-durability-begin"
	endMark   = "/mica-durability-end"
)

func mark(name string) { _ = unix.Access(name, unix.F_OK) }

func config(lower, dir string) fusefs.Config {
	return fusefs.Config{
		Layers: []fusefs.Layer{{Dir: lower}},
		Upper:  &fusefs.Upper{Dir: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")},
	}
}

// runScenario is the process whose system calls fail: LOWER DIR NAME. It prints an outcome.
func runScenario(args []string) error {
	lower, dir, name := args[0], args[1], args[2]
	descriptors := countDescriptors()
	fs, err := fusefs.New(config(lower, dir))
	if err != nil {
		return err
	}
	c := client{fs.Connect(fusefs.ConnectOptions{Guest: true})}
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
	o, err := scenarios[i].outcome(c)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := fs.Close(); err != nil {
		return err
	}
	o.Leaked = countDescriptors() - descriptors
	return json.NewEncoder(os.Stdout).Encode(o)
}

func (s *scenario) outcome(c client) (o outcome, err error) {
	if s.prepare != nil {
		if err := s.prepare(c); err != nil {
			return o, fmt.Errorf("prepare: %w", err)
		}
	}
	if o.Before, err = c.dump(""); err != nil {
		return o, err
	}
	mark(beginMark)
	o.Status = errno(s.run(c))
	mark(endMark)
	if o.After, err = c.dump(""); err != nil {
		return o, fmt.Errorf("after %v: %w", o.Status, err)
	}
	if o.Status == 0 {
		return o, nil
	}
	o.Retry = errno(s.run(c))
	o.Retried, err = c.dump("")
	return o, err
}

func errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	return err.(unix.Errno)
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
