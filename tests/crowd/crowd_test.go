package crowd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micavm/mica/tests/mount"
	"github.com/micavm/mica/tests/testenv"
	"github.com/micavm/mica/tests/tree"
)

// TestMain is also mica's server, and the processes of the crowd.
func TestMain(m *testing.M) {
	mount.Main()
	workerMain()
	os.Exit(m.Run())
}

// TestProcesses has 32 processes in one folder.
func TestProcesses(t *testing.T) {
	testenv.Root(t)
	steps := 200
	if testenv.Soak() {
		steps = 5000
	}
	m, lower := mountMica(t)
	before := read(t, lower)
	dir := filepath.Join(m.Dir(), "folder")
	reports := work(t, dir, 32, steps)

	checkOwn(t, dir, reports)
	checkTokens(t, dir)
	checkJournal(t, dir, reports)
	checkRemount(t, m)
	for _, line := range tree.Diff(before, read(t, lower)) {
		t.Error("layer:", line)
	}
}

// mountMica mounts a union whose layer has a folder with the tokens and the journal.
func mountMica(t *testing.T) (m *mount.Mica, lower string) {
	t.Helper()
	dir := mount.Disk(t)
	s := mount.Stack{Lower: []string{filepath.Join(dir, "lower")}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	at := filepath.Join(dir, "merged")
	folder := filepath.Join(s.Lower[0], "folder")
	for _, name := range []string{folder, s.Upper, s.Work, at} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{journal: ""}
	for i := range tokens {
		files[tokenName(i)] = tokenName(i)
	}
	for name, contents := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := mount.NewMica(s, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, s.Lower[0]
}

// work has processes work in dir, all at once, and gives what they report.
func work(t *testing.T, dir string, processes, steps int) []report {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var commands []*exec.Cmd
	var starts []io.Closer
	outputs := make([]strings.Builder, processes)
	for i := range processes {
		words, err := json.Marshal(job{Dir: dir, Number: i, Steps: steps})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), workerVariable+"="+string(words))
		cmd.Stdout, cmd.Stderr = &outputs[i], os.Stderr
		start, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands, starts = append(commands, cmd), append(starts, start)
	}
	for _, start := range starts {
		if err := start.Close(); err != nil {
			t.Error(err)
		}
	}
	reports := make([]report, processes)
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("worker %d: %v", i, err)
		} else if err := json.Unmarshal([]byte(outputs[i].String()), &reports[i]); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return reports
}

// checkOwn looks for what each process says that it has left, and for nothing more.
func checkOwn(t *testing.T, dir string, reports []report) {
	t.Helper()
	left := map[string]bool{}
	for _, r := range reports {
		for _, name := range r.Own {
			left[name] = true
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != name {
				t.Errorf("%s holds %q (%v)", name, got, err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "own-") && !left[e.Name()] {
			t.Errorf("%s should not be there", e.Name())
		}
	}
}

// checkTokens finds each token once, whatever its name is now.
func checkTokens(t *testing.T, dir string) {
	t.Helper()
	found := map[string]string{}
	for i := range places {
		name := tokenName(i)
		contents, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		if other, ok := found[string(contents)]; ok {
			t.Errorf("%s and %s are both %q", name, other, contents)
		}
		found[string(contents)] = name
	}
	if len(found) != tokens {
		t.Errorf("%d tokens, want %d: %v", len(found), tokens, found)
	}
}

// checkJournal finds each record once, those of each process in order.
func checkJournal(t *testing.T, dir string, reports []report) {
	t.Helper()
	contents, err := os.ReadFile(filepath.Join(dir, journal))
	if err != nil {
		t.Fatal(err)
	}
	next := make([]int, len(reports))
	for start := 0; start < len(contents); start += recordSize {
		line := string(contents[start:min(start+recordSize, len(contents))])
		var number int
		if _, err := fmt.Sscanf(line, "%d-", &number); err != nil || number >= len(next) || line != record(number, next[number]) {
			t.Fatalf("record %q at %d (%v)", line, start, err)
		}
		next[number]++
	}
	for i, r := range reports {
		if next[i] != r.Records {
			t.Errorf("worker %d has written %d records, %d are there", i, r.Records, next[i])
		}
	}
}

// checkRemount sees the same after a remount.
func checkRemount(t *testing.T, m *mount.Mica) {
	t.Helper()
	before := read(t, m.Dir())
	if err := m.Remount(); err != nil {
		t.Fatal(err)
	}
	for _, line := range tree.Diff(before, read(t, m.Dir())) {
		t.Error("after the remount:", line)
	}
}

func read(t *testing.T, dir string) tree.Tree {
	t.Helper()
	got, err := tree.Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
