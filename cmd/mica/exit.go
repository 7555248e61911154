package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/micavm/mica/launcher"
)

// exitFailed is the status of every failure of mica's own, a wrong command line included: no command in a guest is likely to end with
// it. It is docker's, too.
const exitFailed = 125

// A status is the exit status of a command that ended, or of a verb that has said itself what there is to say.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// A hinted error has more lines for the user.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// usage is an error about the command line itself.
func usage(problem, command string) error {
	return hinted{errors.New(problem), command + " --help shows what it takes"}
}

// exit is the one place that turns errors into exit statuses.
func (a *app) exit(err error) int {
	var s status
	switch {
	case err == nil:
		return 0
	case errors.As(err, &s):
		return int(s)
	default:
		printError(a.stderr, err)
		return exitFailed
	}
}

// printError is the one place that prints them.
func printError(w io.Writer, err error) {
	for _, line := range strings.Split(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(w, "mica: %s\n", line)
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "    %s\n", hint)
	}
}

func hintOf(err error) string {
	var h hinted
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, launcher.ErrNoFUSE), errors.Is(err, launcher.ErrNoVMM):
		return "mica doctor says what is missing, and the command that mends it"
	default:
		return ""
	}
}

// say is a word of mica's own.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "mica: "+format+"\n", args...)
	}
}
