package launcher

import (
	"cmp"
	"path"
	"strings"

	"github.com/micavm/mica/launcher/spec"
)

const (
	scriptsDir  = "/.sandbox/scripts"
	startScript = "start" // what runs when nothing else is asked for
	shellScript = "shell" // a script that every sandbox has
)

// command decides what runs, by precedence: an asked-for program, an asked-for script, the start script, the sandbox's command, the
// image's, the sandbox's shell. Arguments after -- are a script's or program's own; they replace all that a command is configured with.
func (r Request) command(image ImageDefaults) ([]string, error) {
	s := r.sandbox()
	if r.Exec != "" {
		return append([]string{r.Exec}, r.Args...), nil
	}
	if r.Script != "" {
		return append(scriptCommand(s, r.Script), r.Args...), nil
	}
	if _, ok := s.Script(startScript); ok {
		return append(scriptCommand(s, startScript), r.Args...), nil
	}
	if len(s.Command) > 0 {
		if r.Args == nil {
			return s.Command, nil
		}
		return append([]string{s.Command[0]}, r.Args...), nil
	}
	if r.Sandbox == nil && len(r.Args) > 0 {
		return r.Args, nil
	}
	if args := imageCommand(image, r.Args); len(args) > 0 {
		return args, nil
	}
	if s.Shell != "" {
		return append(strings.Fields(s.Shell), r.Args...), nil
	}
	return nil, errNothingToRun
}

// imageCommand is entrypoint and cmd; arguments take the place of cmd. An image without either runs nothing, whatever the arguments.
func imageCommand(image ImageDefaults, args []string) []string {
	if len(image.Entrypoint) == 0 && len(image.Cmd) == 0 {
		return nil
	}
	if args == nil {
		args = image.Cmd
	}
	return append(append([]string(nil), image.Entrypoint...), args...)
}

// scriptCommand runs a script. The shell script that is not the user's own is the shell itself: a shell without arguments, not a
// script that starts one.
func scriptCommand(s *spec.Sandbox, name string) []string {
	if _, own := s.Script(name); name == shellScript && !own {
		return strings.Fields(cmp.Or(s.Shell, spec.DefaultShell))
	}
	return []string{path.Join(scriptsDir, name)}
}

// scripts are the files of /.sandbox/scripts.
func scripts(s *spec.Sandbox, shell string) []Script {
	var out []Script
	for _, script := range s.Scripts {
		out = append(out, Script{Name: script.Name, Text: scriptText(script.Body, shell)})
	}
	if _, own := s.Script(shellScript); !own {
		out = append(out, Script{Name: shellScript, Text: scriptText(`exec `+shell+` "$@"`, shell)})
	}
	return out
}

// scriptText is what a script's file holds. A body that says what interprets it is left as it is.
func scriptText(body, shell string) string {
	if strings.HasPrefix(body, "#!") {
		return strings.TrimSuffix(body, "\n") + "\n"
	}
	return "#!" + shell + "\n" + body + "\n"
}
