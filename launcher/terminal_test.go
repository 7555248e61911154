package launcher

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo-terminal of 24 by 80: the user's end, and the one that is a program's standard input.
func openTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	setSize(t, program, 24, 80)
	return user, program
}

func setSize(t *testing.T, terminal *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatal(err)
	}
}

func isRaw(t *testing.T, terminal *os.File) bool {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return termios.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

func TestTerminal(t *testing.T) {
	testRoots(t)
	user, program := openTerminal(t)
	end := make(chan result, 1)
	go func() {
		var r result
		r.status, r.err = fakeRun(testPlan(t, "terminal"), IO{Stdin: program, Stdout: program, Stderr: program, TTY: true}).execute(t.Context())
		end <- r
	}()
	lines := bufio.NewReader(user)
	expect := func(want string) {
		t.Helper()
		if got, err := lines.ReadString('\n'); err != nil || got != want+"\r\n" {
			t.Fatalf("the terminal shows %q, %v; want %q", got, err, want)
		}
	}
	expect("true 24x80")
	if !isRaw(t, program) {
		t.Error("the terminal is not in raw mode")
	}
	setSize(t, program, 50, 132)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	expect("true 50x132")
	if _, err := user.Write([]byte{3}); err != nil { // Ctrl-C is a byte for the guest
		t.Fatal(err)
	}
	if got := <-end; got.status != 3 || got.err != nil {
		t.Errorf("%+v", got)
	}
	if isRaw(t, program) {
		t.Error("the terminal is in raw mode after the run")
	}
}

func TestJanitorRestoresTheTerminal(t *testing.T) {
	_, program := openTerminal(t)
	j, err := startJanitor(os.Stderr, program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enterRaw(program, j); err != nil {
		t.Fatal(err)
	}
	if !isRaw(t, program) {
		t.Error("the terminal is not in raw mode")
	}
	if err := j.finish(); err != nil {
		t.Fatal(err)
	}
	if isRaw(t, program) {
		t.Error("the terminal is in raw mode after its user has ended")
	}
}
