package launcher

import (
	"cmp"
	"path"
	"path/filepath"
	"strings"

	"github.com/micavm/mica/launcher/spec"
)

// NewPlan decides a run: the request, what mica.toml says, and the image's own defaults, in this order of precedence. It reads nothing
// and starts nothing.
func NewPlan(r Request, image Image, defaults ImageDefaults) (*Plan, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.NoImageDefaults {
		defaults = ImageDefaults{}
	}
	s := r.sandbox()
	p := &Plan{
		Name:      s.Name,
		ThrowAway: r.Sandbox == nil,
		Image:     image,
		ReadOnly:  s.ReadOnly,
		Disk:      cmp.Or(r.Disk, s.Disk),
		Shell:     cmp.Or(s.Shell, spec.DefaultShell),
		CPUs:      cmp.Or(r.CPUs, s.CPUs, defaultCPUs),
		MemoryMiB: cmp.Or(r.MemoryMiB, s.MemoryMiB, defaultMemoryMiB),
		VMM:       cmp.Or(r.VMM, s.VMM, "auto"),
		Transport: cmp.Or(r.Transport, "auto"),
		Kernel:    cmp.Or(r.Kernel, s.Kernel),
		Dir:       path.Join("/", cmp.Or(r.Workdir, s.Workdir, defaults.Dir)),
		User:      cmp.Or(r.User, s.User, defaults.User),
		Hostname:  cmp.Or(s.Hostname, s.Name),
	}
	if r.File != nil {
		p.Project = r.File.Project
		p.Config = r.File.Path
		if !p.ReadOnly {
			p.Upper = filepath.Join(p.Project, ".mica", p.Name)
		}
	}
	for _, v := range r.volumes() {
		p.Volumes = append(p.Volumes, Volume(v))
	}
	p.Scripts = scripts(s, p.Shell)
	p.Env = environment(r, defaults.Env)
	args, err := r.command(defaults)
	if err != nil {
		return nil, err
	}
	p.Args = append([]string{program(args[0], p.Dir)}, args[1:]...)
	return p, nil
}

// environment merges the variables: the image's, then mica.toml's, then the command line's. A later value takes the place of an earlier one.
func environment(r Request, image []string) []EnvVar {
	var env []EnvVar
	at := map[string]int{}
	set := func(v EnvVar) {
		i, ok := at[v.Key]
		if !ok {
			i = len(env)
			at[v.Key] = i
			env = append(env, v)
		}
		env[i] = v
	}
	set(EnvVar{Key: "PATH", Value: defaultPath})
	for _, text := range image {
		// What is no variable in an image's list cannot be one in the guest's either.
		if v, err := spec.ParseEnv(text); err == nil {
			set(EnvVar(v))
		}
	}
	if len(r.sandbox().Scripts) > 0 {
		env[0].Value += ":" + scriptsDir
	}
	for _, v := range r.sandbox().Env {
		set(EnvVar(v))
	}
	for _, v := range r.Env {
		set(EnvVar(v))
	}
	return env
}

// program makes a relative path absolute; a bare name stays for the guest to look up in PATH.
func program(name, dir string) string {
	if strings.Contains(name, "/") && !path.IsAbs(name) {
		return path.Join(dir, name)
	}
	return name
}

// Reload gives the plan with the scripts that mica.toml has when text is in it: what may change while a sandbox runs.
func (p *Plan) Reload(text []byte) (*Plan, error) {
	file, err := spec.Parse(text, p.Config, p.Config)
	if err != nil {
		return nil, err
	}
	s, err := file.Sandbox(p.Name)
	if err != nil {
		return nil, err
	}
	next := *p
	next.Shell = cmp.Or(s.Shell, spec.DefaultShell)
	next.Scripts = scripts(s, next.Shell)
	return &next, nil
}

// Redacted is the plan as it may be shown: values of variables that came from files are ***.
func (p *Plan) Redacted() *Plan {
	shown := *p
	shown.Env = append([]EnvVar(nil), p.Env...)
	for i := range shown.Env {
		if shown.Env[i].Secret {
			shown.Env[i].Value = "***"
		}
	}
	return &shown
}
