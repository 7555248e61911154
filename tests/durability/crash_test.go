package durability

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/tests/testenv"
)

const workers = 4

// TestKill kills the server at random moments under load. All that it has acknowledged is there afterwards, and what was
// under way has happened or has not.
func TestKill(t *testing.T) {
	testenv.Root(t)
	points := 10
	if testenv.Soak() {
		points = 200
	}
	for i := range points {
		if !killOnce(t, uint64(i)) {
			return
		}
	}
	t.Logf("%d points", points)
}

// killOnce is one point: the seed says after how many steps.
func killOnce(t *testing.T, seed uint64) bool {
	b := &bench{dir: t.TempDir()}
	b.lower = filepath.Join(b.dir, "lower")
	var all []*worker
	for i := range workers {
		w, err := newWorker(b.lower, i, seed)
		must(t, err)
		all = append(all, w)
	}
	dir, err := b.newRun()
	must(t, err)
	s := startServer(t, b.lower, dir)
	last := rand.New(rand.NewPCG(seed, workers)).Int64N(400)
	var steps atomic.Int64
	var group sync.WaitGroup
	for _, w := range all {
		group.Go(func() {
			err := w.work(s.mount, func() {
				if steps.Add(1) == last+1 {
					_ = s.cmd.Process.Kill()
				}
			})
			if err != nil {
				t.Errorf("point %d: %v", seed, err)
				_ = s.cmd.Process.Kill()
			}
		})
	}
	group.Wait()
	s.buried(t)
	b.checkAnew(t, dir, fmt.Sprintf("point %d", seed), all)
	return !t.Failed()
}

// checkAnew starts a union anew and has the workers look at it.
func (b *bench) checkAnew(t *testing.T, dir, where string, all []*worker) {
	t.Helper()
	fs, err := fusefs.New(config(b.lower, dir))
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	defer func() { must(t, fs.Close()) }()
	if left, err := os.ReadDir(filepath.Join(dir, "work", "mica")); err != nil || len(left) > 0 {
		t.Errorf("%s: %d leftovers in the work folder (%v)", where, len(left), err)
	}
	c := client{fs.Connect(fusefs.ConnectOptions{})}
	for _, w := range all {
		if err := w.check(c); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// treeLines tells the tree below dir as state.lines does.
func (c client) treeLines(dir string) ([]string, error) {
	var lines []string
	err := c.walk(dir, func(name string, e fuse.EntryOut) error {
		short := strings.TrimPrefix(name, dir+"/")
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			lines = append(lines, short+"/")
			return nil
		}
		data, err := c.read(name)
		lines = append(lines, fileLine(short, e.Mode&0o7777, int(e.Nlink), string(data)))
		return err
	})
	slices.Sort(lines)
	return lines, err
}
