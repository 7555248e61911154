package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// FileName is what a project's configuration is called.
const FileName = "mica.toml"

// DefaultShell is what scripts run in when a sandbox names no shell.
const DefaultShell = "/bin/sh"

// maxFileSize bounds what is read: a larger file is a mistake.
const maxFileSize = 4 << 20

// A File is one mica.toml, checked.
type File struct {
	Path      string // absolute
	Project   string // its folder: what relative paths in it are relative to
	Sandboxes map[string]*Sandbox

	label string // the path as the user knows it, for messages
	lines lineMap
}

// A Sandbox is one [sandbox.NAME] table. What the file leaves out has its zero value.
type Sandbox struct {
	Name      string
	Image     string // a reference; paths in it are absolute
	CPUs      int
	MemoryMiB int
	Disk      uint64 // bytes; 0 is no limit
	Workdir   string
	Env       []EnvVar
	EnvFiles  []string
	Volumes   []Volume
	Shell     string // as written: DefaultShell is not filled in
	Command   []string
	Scripts   []Script // sorted by name
	User      string
	Hostname  string
	ReadOnly  bool
	Kernel    string
	VMM       string

	file *File
}

// An EnvVar is one variable of the environment. Secret ones came from a file.
type EnvVar struct {
	Key    string
	Value  string
	Secret bool
}

// A Volume is one host folder in the guest.
type Volume struct {
	Host     string // as written until it is resolved, then absolute and free of symbolic links
	Guest    string // absolute, clean
	ReadOnly bool
}

// A Script is one entry of the scripts table.
type Script struct {
	Name string
	Body string
}

// Find returns the mica.toml that is nearest to dir: in it, or in a folder above it.
// It answers fs.ErrNotExist, wrapped, when there is none.
func Find(dir string) (string, error) {
	for d := dir; ; d = filepath.Dir(d) {
		path := filepath.Join(d, FileName)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.Mode().IsRegular():
			return path, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("look for %s: %w", FileName, err)
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no %s in %s or in a folder above it: %w", FileName, dir, fs.ErrNotExist)
		}
	}
}

// Load reads and checks the file at path. Mistakes in it are an Errors, all of them.
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := Read(f)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, abs, path)
}

// Read gives what is in a configuration's file.
func Read(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		err = fmt.Errorf("%s: too long for a configuration: the limit is %d bytes", f.Name(), maxFileSize)
	}
	return data, err
}

// Parse checks data as if it stood in the file at path, which is absolute; messages call it label.
func Parse(data []byte, path, label string) (*File, error) {
	var root map[string]any
	if err := toml.Unmarshal(data, &root); err != nil {
		return nil, syntaxError(label, err)
	}
	f := &File{Path: path, Project: filepath.Dir(path), Sandboxes: map[string]*Sandbox{}, label: label, lines: mapLines(data)}
	r := &reader{file: f}
	r.readFile(root)
	if len(r.errs) > 0 {
		r.errs.sort()
		return nil, r.errs
	}
	return f, nil
}

// syntaxError turns what the TOML parser says into an Errors.
func syntaxError(label string, err error) error {
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		return Errors{{File: label, Line: 1, Problem: "not TOML: " + err.Error()}}
	}
	line, _ := de.Position()
	return Errors{{File: label, Line: line, Key: joinKey(de.Key()), Problem: "not TOML: " + strings.TrimPrefix(de.Error(), "toml: ")}}
}

// Sandbox returns the sandbox called name; the error of an unknown one has the nearest name.
func (f *File) Sandbox(name string) (*Sandbox, error) {
	if s, ok := f.Sandboxes[name]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("no sandbox %q in %s: %s", name, f.label, Suggest(name, f.Names(), "sandboxes"))
}

// Names lists the sandboxes, sorted.
func (f *File) Names() []string {
	names := make([]string, 0, len(f.Sandboxes))
	for name := range f.Sandboxes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Script returns the script called name.
func (s *Sandbox) Script(name string) (Script, bool) {
	for _, script := range s.Scripts {
		if script.Name == name {
			return script, true
		}
	}
	return Script{}, false
}

// Resolve returns s with what the host has: variables of env files before those of env, volumes whose folders exist under their real
// paths, a kernel that exists. Mistakes are an Errors, all of them.
func (s *Sandbox) Resolve() (*Sandbox, error) {
	out := *s
	var errs Errors
	out.Env = nil
	for i, path := range s.EnvFiles {
		vars, err := ReadEnvFile(s.file.absolute(path))
		if err != nil {
			errs = append(errs, s.errorAt(err.Error(), "env_file", index(i)))
		}
		out.Env = append(out.Env, vars...)
	}
	out.Env = append(out.Env, s.Env...)
	out.Volumes = nil
	for i, v := range s.Volumes {
		real, err := v.Resolve(s.file.Project)
		if err != nil {
			errs = append(errs, s.errorAt(err.Error(), "volumes", index(i)))
		}
		out.Volumes = append(out.Volumes, real)
	}
	if s.Kernel != "" {
		out.Kernel = s.file.absolute(s.Kernel)
		if info, err := os.Stat(out.Kernel); err != nil || !info.Mode().IsRegular() {
			errs = append(errs, s.errorAt(fmt.Sprintf("no kernel %s: build one with make kernel, or remove the key", out.Kernel), "kernel"))
		}
	}
	if len(errs) > 0 {
		errs.sort()
		return nil, errs
	}
	return &out, nil
}

func (s *Sandbox) errorAt(problem string, key ...string) Error {
	path := append([]string{"sandbox", s.Name}, key...)
	return Error{File: s.file.label, Line: s.file.lines.at(path), Key: joinKey(path), Problem: problem}
}

func (f *File) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(f.Project, path)
}

// An Error is one mistake in a file.
type Error struct {
	File    string
	Line    int
	Key     string // dotted; "" when the mistake has none
	Problem string // the value, what is wrong with it and what would do
}

// Error is one line: FILE:LINE: KEY: PROBLEM.
func (e Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Key, e.Problem)
}

// Errors are all the mistakes of a file, in the order of its lines.
type Errors []Error

// Error is one line a mistake.
func (e Errors) Error() string {
	var b bytes.Buffer
	for i, one := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b Error) int { return a.Line - b.Line })
}
