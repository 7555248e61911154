package launcher

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A terminal is the user's, in raw mode: the guest's own terminal gives its keys their meaning.
type terminal struct {
	file *os.File
	was  *term.State
}

// enterRaw puts f into raw mode. The janitor is told what it was like before.
func enterRaw(f *os.File, j *janitor) (*terminal, error) {
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("set terminal to raw mode: %w", err)
	}
	if err := j.tell(order{Terminal: termios}); err != nil {
		return nil, err
	}
	was, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set terminal to raw mode: %w", err)
	}
	return &terminal{file: f, was: was}, nil
}

func (t *terminal) restore() {
	if t != nil {
		_ = term.Restore(int(t.file.Fd()), t.was) // it may have hung up
	}
}

// windowSize is the size of the terminal in characters; zeros when it is none.
func windowSize(f *os.File) (rows, cols uint16) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return size.Row, size.Col
}
