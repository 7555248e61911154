package launcher

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/kernel"
)

// testRoots gives the test folders of its own for all that mica keeps, and says what is in them but for logs of named sandboxes.
func testRoots(t *testing.T) {
	t.Helper()
	base, err := os.MkdirTemp("", "m") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range []string{"run/mica", "cache/mica/run"} {
			if names, _ := os.ReadDir(filepath.Join(base, dir)); len(names) != 0 {
				t.Errorf("left in %s: %v", dir, names)
			}
		}
		os.RemoveAll(base)
	})
	for variable, name := range map[string]string{"XDG_RUNTIME_DIR": "run", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"} {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv(variable, dir)
	}
}

// testPlan is a throw-away sandbox over an empty folder.
func testPlan(t *testing.T, args ...string) *Plan {
	t.Helper()
	return &Plan{
		Name: "run-test", ThrowAway: true, Image: Image{Reference: "./root", Layers: []Layer{{Dir: t.TempDir()}}},
		CPUs: 1, MemoryMiB: 64, Args: args, Dir: "/", Hostname: "test",
		Env: []EnvVar{{Key: "PATH", Value: os.Getenv("PATH")}},
	}
}

func fakeRun(p *Plan, streams IO) *run {
	r := newRun(p, streams)
	r.divide = func() error { return nil } // the tests' own process is not to be replaced
	r.choose = func(context.Context) (platform, error) {
		return platform{monitor: fakeVMM{}, transport: transportVhostUser, kernel: kernel.Kernel{Path: "/dev/null"}}, nil
	}
	return r
}

// fakeProcess is the run of a process that the tests start: it confines itself, as mica does.
func fakeProcess(p *Plan, streams IO) *run {
	r := fakeRun(p, streams)
	r.divide = r.confine
	return r
}

// A result is how a run ended and what it wrote.
type result struct {
	status         Status
	err            error
	stdout, stderr string
}

// runToEnd runs the plan with stdin as its standard input.
func runToEnd(t *testing.T, p *Plan, stdin io.Reader) result {
	t.Helper()
	var streams IO
	var input *os.File
	streams.Stdin, input = testPipe(t)
	stdout, out := testPipe(t)
	stderr, errOut := testPipe(t)
	streams.Stdout, streams.Stderr = out, errOut
	go func() {
		_, _ = io.Copy(input, stdin)
		input.Close()
	}()
	read := func(f *os.File) <-chan string {
		c := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(f)
			c <- string(text)
		}()
		return c
	}
	stdoutText, stderrText := read(stdout), read(stderr)
	var r result
	r.status, r.err = fakeRun(p, streams).execute(t.Context())
	out.Close()
	errOut.Close()
	streams.Stdin.Close()
	r.stdout, r.stderr = <-stdoutText, <-stderrText
	return r
}

func testPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want result
	}{
		{"streams and status", []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 7"}, result{status: 7, stdout: "out\n", stderr: "err\n"}},
		{"signal", []string{"/bin/sh", "-c", "kill -9 $$"}, result{status: 128 + 9}},
		{"standard input ends", []string{"/bin/cat"}, result{stdout: "input"}},
		{"standard input is not read", []string{"/bin/true"}, result{}},
		{"not found", []string{"nowhere"}, result{status: 127, stderr: "mica: nowhere: not found\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			testRoots(t)
			if got := runToEnd(t, testPlan(t, test.args...), strings.NewReader("input")); got != test.want {
				t.Errorf("%q: %+v, want %+v", test.args, got, test.want)
			}
		})
	}
}

func TestManyBytesThereAndBack(t *testing.T) {
	testRoots(t)
	sent := make([]byte, 20<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(sent)
	got := runToEnd(t, testPlan(t, "/bin/cat"), bytes.NewReader(sent))
	if got.status != 0 || got.err != nil || sha256.Sum256([]byte(got.stdout)) != sha256.Sum256(sent) {
		t.Errorf("%d bytes come back of %d: %v, status %d", len(got.stdout), len(sent), got.err, got.status)
	}
}

func TestGuestThatEndsWithoutAWord(t *testing.T) {
	testRoots(t)
	got := runToEnd(t, testPlan(t, "crash"), strings.NewReader(""))
	want := "the guest ended unexpectedly: fake: exit status 1; console=hvc0; boot of crash; Kernel panic - not syncing: VFS: Unable to mount root fs"
	if got.status != StatusFailed || !errors.Is(got.err, ErrGuest) || errorText(got.err) != want {
		t.Errorf("status %d, %v\nwant %s", got.status, got.err, want)
	}
}

// started runs the plan in the background, and waits for its command to write a line.
func started(t *testing.T, p *Plan) (stdout *bufio.Reader, end <-chan result) {
	t.Helper()
	out, w := testPipe(t)
	errRead, errWrite := testPipe(t)
	stdout = bufio.NewReader(out)
	done := make(chan result, 1)
	go func() {
		var r result
		r.status, r.err = fakeRun(p, IO{Stdout: w, Stderr: errWrite}).execute(t.Context())
		w.Close()
		errWrite.Close()
		text, _ := io.ReadAll(errRead)
		r.stderr = string(text)
		done <- r
	}()
	if line, err := stdout.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("first line: %q, %v; %+v", line, err, <-done)
	}
	return stdout, done
}

func TestSignalsReachTheCommand(t *testing.T) {
	testRoots(t)
	stdout, end := started(t, testPlan(t, "/bin/sh", "-c", `trap "echo term; exit 3" TERM; echo up; while :; do sleep 0.01; done`))
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(stdout); string(rest) != "term\n" {
		t.Errorf("the command says %q", rest)
	}
	if got := <-end; got.status != 3 || got.err != nil {
		t.Errorf("%+v", got)
	}
}

func TestASecondInterruptEndsTheGuest(t *testing.T) {
	testRoots(t)
	late := make(chan os.Signal, 1)
	// One that comes after the run must not end the tests, and it may be on its way when this one has ended.
	signal.Notify(late, unix.SIGINT)
	_, end := started(t, testPlan(t, "/bin/sh", "-c", `trap "" INT; echo up; while :; do sleep 0.01; done`))
	var got result
	eventually(t, "the run ends", func() bool {
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-end:
			return true
		default:
			return false
		}
	})
	if got.status != 130 || got.err != nil || got.stderr != "mica: stopped by SIGINT before the command ended\n" {
		t.Errorf("%+v", got)
	}
}

func TestReaderOfStandardOutputGoesAway(t *testing.T) {
	testRoots(t)
	read, write := testPipe(t)
	read.Close()
	status, err := fakeRun(testPlan(t, "/bin/sh", "-c", "while echo y; do :; done"), IO{Stdout: write}).execute(t.Context())
	if status != 128+13 || err != nil {
		t.Errorf("status %d, %v; want that of SIGPIPE", status, err)
	}
}

func TestOneRunOfAName(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/sh", "-c", "echo up; exec sleep 600")
	_, end := started(t, p)
	if _, err := fakeRun(p, IO{}).execute(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("second run: %v", err)
	}
	running, err := List(t.Context())
	if err != nil || len(running) != 1 || running[0].VMM != "fake" || running[0].PID() != os.Getpid() || !running[0].Up {
		t.Errorf("list: %+v, %v", running, err)
	}
	if err := Stop(t.Context(), p.Name, ""); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := <-end; got.status != 128+15 || got.err != nil {
		t.Errorf("the stopped run: %+v", got)
	}
	if err := Stop(t.Context(), p.Name, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("stop of what does not run: %v", err)
	}
}

func TestContextEndsTheRun(t *testing.T) {
	testRoots(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := fakeRun(testPlan(t, "/bin/sleep", "600"), IO{})
	r.onUp = cancel
	if _, err := r.execute(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

func TestNamedSandboxKeepsItsUpper(t *testing.T) {
	testRoots(t)
	p := testPlan(t, "/bin/true")
	p.Name, p.ThrowAway, p.Project = "web", false, t.TempDir()
	p.Upper = filepath.Join(p.Project, ".mica", "web")
	if got := runToEnd(t, p, strings.NewReader("")); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"upper", "work", "origin.json", "lock", "log/console.log"} {
		if _, err := os.Stat(filepath.Join(p.Upper, name)); err != nil {
			t.Error(err)
		}
	}
	if err := Remove(t.Context(), "web", p.Project); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.Upper); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed sandbox: %v", err)
	}
}

const wordKilledRun = "killed-run"

// killedRun is a supervisor that a test kills: its arguments are the image's folder and the command.
func killedRun() {
	p := &Plan{Name: "killed", ThrowAway: true, Image: Image{Layers: []Layer{{Dir: os.Args[2]}}}, Args: os.Args[3:], Dir: "/"}
	status, err := fakeProcess(p, IO{Stdout: os.Stdout, Stderr: os.Stderr}).execute(context.Background())
	fmt.Fprintln(os.Stderr, status, err)
	os.Exit(1)
}

func TestKilledSupervisorLeavesNothing(t *testing.T) {
	testRoots(t)
	cmd := exec.Command(os.Args[0], wordKilledRun, t.TempDir(), "/bin/sh", "-c", "echo $$; exec sleep 600")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	guest, err := findProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	running, err := List(t.Context())
	if err != nil || len(running) != 1 {
		t.Fatalf("list: %v, %v", running, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR") + "/mica", os.Getenv("XDG_CACHE_HOME") + "/mica/run"} {
		eventually(t, dir+" is empty", func() bool {
			names, err := os.ReadDir(dir)
			return err == nil && len(names) == 0
		})
	}
	eventually(t, "the guest's command ends", func() bool { return !guest.alive() })
}
