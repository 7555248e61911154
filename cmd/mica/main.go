package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

func main() {
	if hidden(os.Args) {
		return
	}
	os.Exit(run(os.Args))
}

// run carries out one command line, the program's name first, and returns its exit status.
func run(args []string) int {
	a := &app{ctx: context.Background(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	if status, linked := runLinked(a, args); linked {
		return status
	}
	args = args[1:]
	args, a.args = cutArgs(args)
	return a.exit(a.parseAndRun(args))
}

// cutArgs divides "run … -- ARGS": what follows the first -- is the guest's, not mica's. It is nil without a --.
func cutArgs(args []string) (own, guest []string) {
	if len(args) == 0 || args[0] == "" {
		return args, nil
	}
	for i, arg := range args {
		if arg == "--" {
			return args[:i], append([]string{}, args[i+1:]...)
		}
	}
	return args, nil
}

// errShown ends parsing: kong has printed its help.
var errShown = errors.New("shown")

func (a *app) parseAndRun(args []string) (err error) {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("mica"),
		kong.Description(strings.TrimSpace(description)),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(int) { panic(errShown) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return err
	}
	defer recoverShown(&err)
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return usageError(err)
	}
	a.quiet, a.debug = c.Quiet, c.Debug
	if verb := parsed.Selected().Name; a.args != nil && verb != "run" {
		return usage(verb+" takes nothing after --", "mica "+verb)
	}
	return parsed.Run(a)
}

// recoverShown is deferred where kong parses: help that was shown is no error.
func recoverShown(err *error) {
	if r := recover(); r == errShown {
		*err = nil
	} else if r != nil {
		panic(r)
	}
}

// usageError is what kong says of a command line, with the help that would do.
func usageError(err error) error {
	path := "mica"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		path += " " + parse.Context.Selected().Name
	}
	if path == "mica run" && strings.HasPrefix(err.Error(), "unexpected argument") {
		return hinted{err, "a command and its arguments go after --"}
	}
	return usage(err.Error(), path)
}
