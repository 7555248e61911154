package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/micavm/mica/launcher"
)

type runCommand struct {
	which
	machineFlags
	Script string `short:"s" help:"The script of the sandbox to run." placeholder:"SCRIPT"`
	Exec   string `short:"x" help:"A program to run in place of what the sandbox starts with." placeholder:"PROGRAM"`
	Detach bool   `short:"d" help:"Run in the background, and print the sandbox's name."`
	Reset  bool   `help:"Throw away what the sandbox has changed in its root before it starts."`
	DryRun bool   `help:"Print the plan of the run as JSON; values from env files are ***."`
}

// Help is the long text of mica run --help.
func (runCommand) Help() string {
	return strings.Trim(`
It is called in two ways:

  mica run NAME[~SCRIPT] [-- ARGS]
  mica run --image REF [-- COMMAND]

What runs is the first of: --exec, --script, ~SCRIPT, the script start, the command of mica.toml, the image's entrypoint and cmd, the
shell of mica.toml. ARGS after -- are arguments for it; they replace all those of a configured command. With --image they are the command.

The exit status is the command's. 125: mica failed, or the command line is wrong. 126: the command cannot be executed. 127: it was not
found. 128+N: signal N ended it.`, "\n")
}

// Run plans the run, and carries the plan out.
func (c *runCommand) Run(a *app) error {
	p, err := c.plan(a)
	if err != nil {
		return err
	}
	if c.DryRun {
		out := json.NewEncoder(a.stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(p.Redacted())
	}
	if c.Detach {
		if err := launcher.Detach(p); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.stdout, p.Name)
		return err
	}
	return a.runInForeground(p)
}

// runInForeground gives the command the user's own streams, and its status to mica.
func (a *app) runInForeground(p *launcher.Plan) error {
	streams := launcher.IO{Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, TTY: a.hasTerminal()}
	if streams.TTY {
		p.Env = withTerm(p.Env)
	}
	return ended(launcher.Run(a.ctx, p, streams))
}

// supervise is the rest of a run, in the process that has confined itself. It gives the exit status.
func supervise() int {
	a := &app{ctx: context.Background(), stderr: os.Stderr}
	return a.exit(ended(launcher.Supervise(a.ctx)))
}

// ended has the command's status be mica's.
func ended(code launcher.Status, err error) error {
	if err == nil && code != 0 {
		return status(code)
	}
	return err
}

// plan decides the run. All that can be wrong without the image is said before the image is pulled.
func (c *runCommand) plan(a *app) (*launcher.Plan, error) {
	if c.Exec != "" && c.Script != "" {
		return nil, errors.New("--exec and --script exclude each other: give one of them")
	}
	name, script, tilde := strings.Cut(c.Name, "~")
	if tilde && script == "" {
		return nil, fmt.Errorf("no script after ~ in %q: write NAME~SCRIPT or NAME", c.Name)
	}
	t, err := c.target(name)
	if err != nil {
		return nil, err
	}
	if c.Reset && t.request.Sandbox == nil {
		return nil, errors.New("--reset is for a sandbox of mica.toml: a throw-away one keeps nothing")
	}
	r := t.request
	r.Script, r.Exec, r.Args = script, c.Exec, a.args
	if c.Script != "" {
		r.Script = c.Script
	}
	if err := c.apply(&r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	image, defaults, err := a.pull(t.reference)
	if err != nil {
		return nil, err
	}
	p, err := launcher.NewPlan(r, image, defaults)
	if err != nil {
		return nil, err
	}
	p.Reset, p.Quiet, p.Debug = c.Reset, a.quiet, a.debug
	return p, nil
}

// hasTerminal says whether the command gets a terminal: when a person is at both ends of it.
func (a *app) hasTerminal() bool {
	return term.IsTerminal(int(a.stdin.Fd())) && term.IsTerminal(int(a.stdout.Fd()))
}

// withTerm gives the command the user's TERM, unless something else has been said.
func withTerm(env []launcher.EnvVar) []launcher.EnvVar {
	for _, v := range env {
		if v.Key == "TERM" {
			return env
		}
	}
	if name := os.Getenv("TERM"); name != "" {
		env = append(env, launcher.EnvVar{Key: "TERM", Value: name})
	}
	return env
}
