package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
)

func TestStatus(t *testing.T) {
	plain := write(t, "plain", "hello\n", 0o644)
	garbage := write(t, "garbage", "hello\n", 0o755)
	script := write(t, "script", "#!/nonexistent/bash\n", 0o755)
	for name, test := range map[string]struct {
		boot *wire.Boot
		want wire.Exit
	}{
		"zero":           {boot("true"), wire.Exit{}},
		"a code":         {shell("exit 7"), wire.Exit{Code: 7}},
		"a signal":       {shell("kill -9 $$"), wire.Exit{Signal: 9}},
		"no command":     {boot(), wire.Exit{Code: 127, Error: "no command given"}},
		"not in PATH":    {boot("nope"), wire.Exit{Code: 127, Error: "nope: command not found"}},
		"no such file":   {boot("/no/such"), wire.Exit{Code: 127, Error: "/no/such: no such file or directory"}},
		"a folder":       {boot("/etc"), wire.Exit{Code: 126, Error: "/etc: is a directory"}},
		"not executable": {boot(plain), wire.Exit{Code: 126, Error: plain + ": permission denied"}},
		"no program":     {boot(garbage), wire.Exit{Code: 126, Error: garbage + ": exec format error"}},
		"no interpreter": {boot(script), wire.Exit{Code: 127, Error: script + ": its interpreter /nonexistent/bash is not in the guest"}},
		"too long":       {boot("true", strings.Repeat("x", 1<<20)), wire.Exit{Code: 126, Error: "true: argument list too long"}},
		"no workdir":     {&wire.Boot{Args: []string{"true"}, Dir: "/x"}, wire.Exit{Code: 125, Error: "workdir /x: no such directory"}},
		"workdir a file": {&wire.Boot{Args: []string{"true"}, Dir: plain}, wire.Exit{Code: 125, Error: "workdir " + plain + ": not a directory"}},
		"no user":        {&wire.Boot{Args: []string{"true"}, User: "no-one"}, wire.Exit{Code: 125, Error: "user no-one: not in the guest's /etc/passwd: a numeric uid would do"}},
		"a bad limit":    {&wire.Boot{Args: []string{"true"}, Rlimits: []wire.Rlimit{{Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}}}, wire.Exit{Code: 125, Error: "set resource limit 4 to 2:1: invalid argument"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, exit := runGuest(t, test.boot)
			if exit != test.want {
				t.Errorf("exit %+v, want %+v", exit, test.want)
			}
			if stdout+stderr != "" {
				t.Errorf("output %q, %q", stdout, stderr)
			}
		})
	}
}

func TestOutputsAreApart(t *testing.T) {
	stdout, stderr, exit := runGuest(t, shell("echo out; echo err >&2; echo more >/dev/stdout; exit 7"))
	if stdout != "out\nmore\n" || stderr != "err\n" || exit.Status() != 7 {
		t.Errorf("output %q, %q, %+v", stdout, stderr, exit)
	}
}

func TestSurroundings(t *testing.T) {
	dir := t.TempDir()
	b := boot("sh", "-c", "pwd; echo $HOME; echo $PATH; echo $A; ulimit -c; ulimit -n; echo $$ $(ps -o sid= -p $$ 2>/dev/null || echo $$)")
	b.Dir, b.Env = dir, []string{"A=1", "A=2"}
	b.Rlimits = []wire.Rlimit{{Resource: unix.RLIMIT_CORE, Soft: 0, Hard: 0}, {Resource: unix.RLIMIT_NOFILE, Soft: 100, Hard: 200}}
	stdout, stderr, exit := runGuest(t, b)
	home := "/root"
	if u, err := lookupUser("", "/etc/passwd", "/etc/group"); err == nil {
		home = u.home
	}
	want := fmt.Sprintf("%s\n%s\n%s\n2\n0\n100\n", dir, home, defaultPath)
	if !strings.HasPrefix(stdout, want) || stderr != "" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %q, %+v; want %q", stdout, stderr, exit, want)
	}
	if ids := strings.Fields(strings.TrimPrefix(stdout, want)); len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("pid and session are %q", ids)
	}
}

func TestLargeEnvironmentAndArguments(t *testing.T) {
	b := boot("sh", "-c", `env | grep -c ^VARIABLE_; echo ${#1}; shift; echo $#`, "sh", strings.Repeat("x", 64<<10))
	for i := range 10_000 {
		b.Env = append(b.Env, fmt.Sprintf("VARIABLE_%d=%d", i, i))
		b.Args = append(b.Args, "argument")
	}
	stdout, stderr, exit := runGuest(t, b)
	if stdout != "10000\n65536\n10000\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %q, %+v", stdout, stderr, exit)
	}
}

func TestEcho(t *testing.T) {
	const size = 100 << 20
	sent, received := sha256.New(), sha256.New()
	g := startGuest(t, boot("cat"), received)
	if err := g.stdin.Copy(io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), size), sent)); err != nil {
		t.Fatal(err)
	}
	if exit := g.wait(); exit != (wire.Exit{}) {
		t.Errorf("exit %+v", exit)
	}
	if got, want := fmt.Sprintf("%x", received.Sum(nil)), fmt.Sprintf("%x", sent.Sum(nil)); got != want {
		t.Errorf("what came back has the digest %s, want %s", got, want)
	}
}

func TestBytesThatAreNoText(t *testing.T) {
	b := boot("printf", "%s", "caf\xe9\n")
	stdout, _, exit := runGuest(t, b)
	if stdout != "caf\xe9\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %+v", stdout, exit)
	}
}

// TestLargeOutput has a command that ends with its pipe full: nothing of it is lost.
func TestLargeOutput(t *testing.T) {
	stdout, _, exit := runGuest(t, shell("head -c 3000000 /dev/zero; exit 3"))
	if len(stdout) != 3000000 || exit.Status() != 3 {
		t.Errorf("%d bytes, %+v", len(stdout), exit)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	stdout, _, exit := runGuest(t, shell(`
		for i in 1 2 3 4 5 6 7 8 9; do (true & true &) done
		while cat /proc/[0-9]*/stat 2>/dev/null | grep -q ') Z'; do :; done
		echo none`))
	if stdout != "none\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %+v", stdout, exit)
	}
}

func TestSignal(t *testing.T) {
	g := startGuest(t, shell(`trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done`), nil)
	g.stdout.until(t, "ready")
	g.conn.WriteSignal(15)
	if exit := g.wait(); exit != (wire.Exit{Code: 3}) || !strings.Contains(g.stdout.String(), "caught") {
		t.Errorf("exit %+v, output %q", exit, g.stdout.String())
	}
}

// TestSignalBeforeStart sends one right behind the boot message.
func TestSignalBeforeStart(t *testing.T) {
	g := startGuest(t, boot("sleep", "1000"), nil)
	g.conn.WriteSignal(15)
	if exit := g.wait(); exit != (wire.Exit{Signal: 15}) {
		t.Errorf("exit %+v", exit)
	}
}

// TestSignalPassesInput has a command that reads nothing of its endless input.
func TestSignalPassesInput(t *testing.T) {
	g := startGuest(t, shell("echo ready; exec sleep 1000"), nil)
	copied := make(chan error, 1)
	go func() { copied <- g.stdin.Copy(zeros{}) }()
	g.stdout.until(t, "ready")
	g.conn.WriteSignal(9)
	if exit := g.wait(); exit != (wire.Exit{Signal: 9}) {
		t.Errorf("exit %+v", exit)
	}
	if err := <-copied; !errors.Is(err, wire.ErrStdinClosed) {
		t.Errorf("Copy: %v", err)
	}
}

func TestInputThatNobodyReads(t *testing.T) {
	g := startGuest(t, shell("exec 0<&-; exec sleep 1000"), nil)
	if err := g.stdin.Copy(zeros{}); !errors.Is(err, wire.ErrStdinClosed) {
		t.Errorf("Copy: %v", err)
	}
	<-g.closed
	g.conn.WriteSignal(9)
	g.wait()
}

// TestLeftovers has processes that outlive the command and keep its output open.
func TestLeftovers(t *testing.T) {
	for name, script := range map[string]string{
		"in the background":   `sleep 1000 & echo hi`,
		"in another session":  `setsid sleep 1000 & echo hi`,
		"stopped":             `sleep 1000 & kill -STOP $!; echo hi`,
		"deaf to SIGTERM":     `(trap '' TERM; while :; do sleep 1; done) & echo hi`,
		"of a killed command": `sleep 1000 & echo hi; kill -9 $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, _, exit := runGuest(t, shell(script))
			killed := name == "of a killed command"
			if stdout != "hi\n" || killed != (exit.Signal == 9) || exit.Code != 0 {
				t.Errorf("output %q, %+v", stdout, exit)
			}
		})
	}
}

func TestHostIsGone(t *testing.T) {
	g := startGuest(t, shell("echo ready; exec sleep 1000"), nil)
	g.stdout.until(t, "ready")
	g.conn.Close()
	var status *exec.ExitError
	if err := <-g.ended; !errors.As(err, &status) || status.ExitCode() != restarted {
		t.Errorf("the guest: %v, want a restart", err)
	}
}

func TestSignalsToInit(t *testing.T) {
	stdout, _, exit := runGuest(t, shell("for s in HUP INT QUIT USR1 USR2 TERM PIPE SEGV; do kill -$s 1; done; kill -INT $$; echo alive"))
	if stdout != "" || exit != (wire.Exit{Signal: 2}) { // the command's own signals are as ever
		t.Errorf("output %q, %+v", stdout, exit)
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user than one's own takes root")
	}
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	b := shell("id -u; id -g; id -G; echo $HOME; echo more >/dev/stdout")
	b.User = "4321:1234"
	stdout, stderr, exit := runGuest(t, b)
	if stdout != "4321\n1234\n1234\n/\nmore\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %q, %+v", stdout, stderr, exit)
	}
	b = boot("true")
	b.User, b.Dir = "4321", private
	if _, _, exit = runGuest(t, b); exit != (wire.Exit{Code: 125, Error: "workdir " + private + ": permission denied"}) {
		t.Errorf("in another user's folder: %+v", exit)
	}
}

func terminal(script string) *wire.Boot {
	b := shell(script)
	b.TTY, b.Rows, b.Cols = true, 24, 80
	b.Env = append(b.Env, "TERM=dumb")
	return b
}

func TestTerminal(t *testing.T) {
	stdout, stderr, exit := runGuest(t, terminal("test -t 0 && test -t 1 && test -t 2 && stty size && tty </dev/tty >/dev/null && echo err >&2; exit 7"))
	if stdout != "24 80\r\nerr\r\n" || stderr != "" || exit.Status() != 7 {
		t.Errorf("output %q, %q, %+v", stdout, stderr, exit)
	}
}

func TestTerminalEnd(t *testing.T) {
	g := startGuest(t, terminal("stty -echo; echo ready; cat; echo end"), nil)
	g.stdout.until(t, "ready")
	if err := g.stdin.Copy(strings.NewReader("one\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	if exit := g.wait(); exit != (wire.Exit{}) || g.stdout.String() != "ready\r\none\r\ntwo\r\nend\r\n" {
		t.Errorf("output %q, %+v", g.stdout.String(), exit)
	}
}

func TestTerminalInterrupt(t *testing.T) {
	g := startGuest(t, terminal("echo ready; exec sleep 1000"), nil)
	g.stdout.until(t, "ready")
	if err := g.stdin.Copy(strings.NewReader("\x03")); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if exit := g.wait(); exit != (wire.Exit{Signal: 2}) {
		t.Errorf("exit %+v", exit)
	}
}

func TestTerminalResize(t *testing.T) {
	g := startGuest(t, terminal("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"), nil)
	g.stdout.until(t, "ready")
	g.conn.WriteWinsize(50, 132)
	if exit := g.wait(); exit != (wire.Exit{}) || !strings.Contains(g.stdout.String(), "50 132") {
		t.Errorf("output %q, %+v", g.stdout.String(), exit)
	}
}

// TestTerminalHangup has a shell with jobs: they end with it.
func TestTerminalHangup(t *testing.T) {
	stdout, _, exit := runGuest(t, terminal("sleep 1000 & echo hi"))
	if stdout != "hi\r\n" || exit != (wire.Exit{}) {
		t.Errorf("output %q, %+v", stdout, exit)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
