package durability

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/tests/testenv"
)

// changing are the system calls that a full disk fails, and all but close are those that a broken one does.
var (
	changing = []string{
		"mkdirat", "mknodat", "linkat", "unlinkat", "renameat", "renameat2", "symlinkat", "setxattr", "lsetxattr", "fsetxattr",
		"removexattr", "lremovexattr", "fremovexattr", "fsync", "fdatasync", "ftruncate", "fallocate", "utimensat", "fchmodat",
		"chmod", "fchmod", "fchownat", "copy_file_range", "pwrite64", "write", "ioctl",
	}
	reading = []string{
		"openat", "openat2", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "lseek", "pread64", "statx",
		"newfstatat", "fstat", "getdents64", "readlinkat",
	}
	traced = strings.Join(slices.Concat(changing, reading, []string{"access", "faccessat"}), ",")
)

// A fault is the call of one name that fails, or that the server is killed at: the nth of the thread.
type fault struct {
	call  string
	nth   int
	errno string // or killed
}

const killed = "SIGKILL"

var errnos = map[string]unix.Errno{"ENOSPC": unix.ENOSPC, "EIO": unix.EIO}

func (f fault) String() string { return fmt.Sprintf("%s of %s %d", f.errno, f.call, f.nth) }

// A bench has the layer and the place for the runs.
type bench struct {
	lower, dir string
	runs       atomic.Int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests mount and make devices: run them as root (tests/setup.sh)")
	}
	b := &bench{dir: t.TempDir()}
	b.lower = filepath.Join(b.dir, "lower")
	must(t, makeLower(b.lower))
	return b
}

// newRun makes a new upper and work folder.
func (b *bench) newRun() (string, error) {
	dir := filepath.Join(b.dir, fmt.Sprint(b.runs.Add(1)))
	for _, name := range []string{"", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// run has the scenario run under strace, with the fault if there is one.
func (b *bench) run(s scenario, dir string, f *fault) (o outcome, err error) {
	args := []string{"-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-o", filepath.Join(dir, "trace"), "-e", "trace=" + traced}
	if f != nil {
		what := "error"
		if f.errno == killed {
			what = "signal"
		}
		args = append(args, "-e", fmt.Sprintf("inject=%s:%s=%s:when=%d", f.call, what, f.errno, f.nth))
	}
	cmd := exec.Command("strace", append(args, os.Args[0], b.lower, dir, s.name)...)
	cmd.Env = append(os.Environ(), roleVariable+"=scenario", "GOMAXPROCS=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	switch {
	case err == nil:
	case f != nil && f.errno == killed:
		return o, nil
	case bytes.Contains(said.Bytes(), []byte("netpollBreak write failed")):
		return o, errRuntime
	default:
		return o, fmt.Errorf("the server ended: %w\n%s", err, &said)
	}
	return o, json.Unmarshal(out, &o)
}

// errRuntime says that a fault met Go's runtime, which writes to wake its poller, on a thread and at a moment of its own.
var errRuntime = errors.New("the fault met the runtime")

var traceLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)`)

// calls reads from a trace which calls the operation makes, each with how many of its name there were on the thread.
func calls(dir string) (found []fault, err error) {
	file, err := os.Open(filepath.Join(dir, "trace"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	thread, inside := "", false
	count := make(map[string]int)
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		m := traceLine.FindStringSubmatch(scanner.Text())
		if m == nil {
			continue
		}
		if thread == "" {
			thread = m[1] // the first is the one that all runs on
		}
		if m[1] != thread {
			continue
		}
		count[m[2]]++
		switch {
		case strings.Contains(m[3], beginMark):
			inside = true
		case strings.Contains(m[3], endMark):
			inside = false
		case inside:
			found = append(found, fault{call: m[2], nth: count[m[2]]})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no call in %s", file.Name())
	}
	return found, scanner.Err()
}

// dumpAnew tells what a new start finds.
func (b *bench) dumpAnew(dir string) ([]string, error) {
	fs, err := fusefs.New(config(b.lower, dir))
	if err != nil {
		return nil, err
	}
	c := client{fs.Connect(fusefs.ConnectOptions{})}
	lines, err := c.dump("")
	if err := fs.Close(); err != nil {
		return nil, err
	}
	left, err2 := os.ReadDir(filepath.Join(dir, "work", "mica"))
	if err2 == nil && len(left) > 0 {
		return lines, fmt.Errorf("the work folder has %d leftovers", len(left))
	}
	return lines, err
}

// inject runs the scenario with a fault: it must leave what was there and say so, or succeed all the same.
func (b *bench) inject(s scenario, f fault, normal outcome) error {
	dir, err := b.newRun()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o, err := b.run(s, dir, &f)
	if err == errRuntime {
		return b.inject(s, f, normal)
	}
	if err != nil {
		return err
	}
	disk, err := b.dumpAnew(dir)
	if err != nil {
		return err
	}
	if f.errno == killed {
		return oldOrNew(disk, normal)
	}
	if f.call == "utimensat" { // a time that cannot be put back is lost
		for _, lines := range []*[]string{&o.Before, &o.After, &o.Retried, &disk, &normal.Before, &normal.After} {
			*lines = withoutTimes(*lines)
		}
	}
	last := o.After
	if o.Status != 0 {
		last = o.Retried
	}
	// A disk that cannot be read may keep the server from seeing what it has done.
	done := o.Status != 0 && slices.Contains(reading, f.call) && sameTree(o.After, normal.After)
	switch {
	case !slices.Equal(o.Before, normal.Before):
		return fmt.Errorf("the fault came too early:%s", difference(o.Before, normal.Before))
	case o.Status == 0 && !sameTree(o.After, normal.After):
		return fmt.Errorf("it succeeded, but not in:%s", difference(o.After, normal.After))
	case o.Status != 0 && o.Status != errnos[f.errno]:
		return fmt.Errorf("it said %v", o.Status)
	case o.Status != 0 && !done && !s.cuts && !sameTree(o.After, o.Before):
		return fmt.Errorf("it failed, but changed:%s", difference(o.After, o.Before))
	case o.Retry != 0 && !done:
		return fmt.Errorf("the next one said %v", o.Retry)
	case o.Status != 0 && !sameTree(o.Retried, normal.After):
		return fmt.Errorf("the next one did not do:%s", difference(o.Retried, normal.After))
	case o.Leaked > 0:
		return fmt.Errorf("%d descriptors were left open", o.Leaked)
	case !sameTree(disk, last):
		return fmt.Errorf("a new start finds another tree:%s", difference(disk, last))
	}
	return nil
}

// oldOrNew is for a server that was killed at a call.
func oldOrNew(disk []string, normal outcome) error {
	disk = withoutTimes(disk)
	before, after := withoutTimes(normal.Before), withoutTimes(normal.After)
	if slices.Equal(disk, before) || slices.Equal(disk, after) {
		return nil
	}
	return fmt.Errorf("a new start finds neither what was:%s\n\tnor what should be:%s", difference(disk, before), difference(disk, after))
}

// TestFaults has each system call of each operation fail, for want of space and for a broken disk, and has the server killed
// at it. Short, every few of them.
func TestFaults(t *testing.T) {
	b := newBench(t)
	step := 97
	if testenv.Soak() {
		step = 1
	}
	type job struct {
		scenario scenario
		fault    fault
		normal   outcome
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for j := range jobs {
				if err := b.inject(j.scenario, j.fault, j.normal); err != nil {
					t.Errorf("%s, %v: %v", j.scenario.name, j.fault, err)
				}
			}
		})
	}
	total := 0
	for _, s := range scenarios {
		normal, faults, err := b.faultsOf(s)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		for _, f := range faults {
			if total++; total%step == 0 {
				jobs <- job{s, f, normal}
			}
		}
	}
	close(jobs)
	workers.Wait()
	t.Logf("%d faults of %d", total/step, total)
}

// faultsOf runs the scenario without a fault, and tells which there may be.
func (b *bench) faultsOf(s scenario) (outcome, []fault, error) {
	dir, err := b.newRun()
	if err != nil {
		return outcome{}, nil, err
	}
	defer os.RemoveAll(dir)
	normal, err := b.run(s, dir, nil)
	if err == nil && normal.Status != 0 {
		err = normal.Status
	}
	if err != nil {
		return normal, nil, err
	}
	found, err := calls(dir)
	var faults []fault
	for _, f := range found {
		f.errno = "EIO"
		faults = append(faults, f)
		if slices.Contains(changing, f.call) {
			for _, f.errno = range []string{"ENOSPC", killed} {
				faults = append(faults, f)
			}
		}
	}
	return normal, faults, err
}
