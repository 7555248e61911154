package spec

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A key is one key of a sandbox table and what it does to a Sandbox.
type key struct {
	name string
	read func(s *Sandbox, v value)
}

// keys are all of them, in the order of the template.
var keys = []key{
	{"image", func(s *Sandbox, v value) {
		parsed(v, &s.Image, ParseImage)
		s.Image = AbsoluteImage(s.Image, s.file.Project)
	}},
	{"cpus", func(s *Sandbox, v value) { v.number(&s.CPUs, ParseCPUs) }},
	{"memory", func(s *Sandbox, v value) { v.number(&s.MemoryMiB, ParseMemory) }},
	{"disk", func(s *Sandbox, v value) { readDisk(s, v) }},
	{"workdir", func(s *Sandbox, v value) { parsed(v, &s.Workdir, ParseWorkdir) }},
	{"env", func(s *Sandbox, v value) { readEnv(s, v) }},
	{"env_file", func(s *Sandbox, v value) { s.EnvFiles = readEnvFiles(v) }},
	{"volumes", func(s *Sandbox, v value) { readVolumes(s, v) }},
	{"ports", func(_ *Sandbox, v value) { readPorts(v) }},
	{"shell", func(s *Sandbox, v value) { parsed(v, &s.Shell, parseShell) }},
	{"command", func(s *Sandbox, v value) { s.Command = readCommand(v) }},
	{"scripts", func(s *Sandbox, v value) { readScripts(s, v) }},
	{"scope", func(_ *Sandbox, v value) { readScope(v) }},
	{"user", func(s *Sandbox, v value) { parsed(v, &s.User, ParseUser) }},
	{"hostname", func(s *Sandbox, v value) { parsed(v, &s.Hostname, parseHostname) }},
	{"depends_on", func(_ *Sandbox, v value) { readDependsOn(v) }},
	{"read_only", func(s *Sandbox, v value) { s.ReadOnly = v.boolean() }},
	{"kernel", func(s *Sandbox, v value) { s.Kernel = v.nonEmpty() }},
	{"vmm", func(s *Sandbox, v value) { parsed(v, &s.VMM, ParseVMM) }},
}

// Keys lists the keys of a sandbox table.
func Keys() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

func (r *reader) readFile(root map[string]any) {
	for _, name := range sortedKeys(root) {
		v := value{r: r, path: []string{name}, v: root[name]}
		if name != "sandbox" {
			v.fail("unknown key: write [sandbox.NAME] tables")
			continue
		}
		for _, box := range v.table() {
			r.readSandbox(box)
		}
	}
	if len(r.errs) == 0 && len(r.file.Sandboxes) == 0 {
		r.errs = append(r.errs, Error{File: r.file.label, Line: 1, Problem: "no sandbox in it: write a [sandbox.NAME] table, or start over with mica init"})
	}
}

func (r *reader) readSandbox(v value) {
	name := v.name()
	if err := CheckName(name); err != nil {
		v.fail(err.Error())
		return
	}
	s := &Sandbox{Name: name, file: r.file}
	r.file.Sandboxes[name] = s
	fields, ok := v.v.(map[string]any)
	if !ok {
		v.failf("%s is not a table: write [sandbox.%s]", v.show(), name)
		return
	}
	for _, field := range v.table() {
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == field.name() })
		if i < 0 {
			field.failf("unknown key: %s", Suggest(field.name(), Keys(), "keys"))
			continue
		}
		keys[i].read(s, field)
	}
	if _, ok := fields["image"]; !ok {
		v.fail(`no image: write image = "REFERENCE"`)
	}
}

func readDisk(s *Sandbox, v value) {
	var mib int
	v.number(&mib, ParseDisk)
	s.Disk = uint64(mib) << 20
}

// readEnv takes a list of KEY=VALUE, or a table.
func readEnv(s *Sandbox, v value) {
	if _, ok := v.v.(map[string]any); !ok {
		s.Env = readList(v, ParseEnv)
		return
	}
	for _, entry := range v.table() {
		text, ok := entry.str()
		if !ok {
			continue
		}
		one, err := ParseEnv(entry.name() + "=" + text)
		if err != nil {
			entry.fail(err.Error())
			continue
		}
		s.Env = append(s.Env, one)
	}
}

func readEnvFiles(v value) []string {
	if _, ok := v.v.([]any); ok {
		return readList(v, parsePath)
	}
	var path string
	parsed(v, &path, parsePath)
	return []string{path}
}

func readVolumes(s *Sandbox, v value) {
	s.Volumes = nil
	for _, element := range v.list() {
		text, ok := element.str()
		if !ok {
			continue
		}
		volume, err := ParseVolume(text)
		if err != nil {
			element.fail(err.Error())
			continue
		}
		if volume.Guest == "" { // a lone path is the same on both sides
			volume.Guest = s.file.absolute(volume.Host)
		}
		s.Volumes = append(s.Volumes, volume)
		if err := CheckOverlap(s.Volumes); err != nil {
			element.fail(err.Error())
			s.Volumes = s.Volumes[:len(s.Volumes)-1]
			if len(s.Volumes) == MaxVolumes {
				return
			}
		}
	}
}

// readPorts, readScope and readDependsOn check what is written, and then refuse it: no effect of these keys is built yet, and a key that
// is ignored would be a lie.
func readPorts(v value) {
	for _, element := range v.list() {
		if element.isNumber() {
			element.failf(`%s is a number: write it as a string, "%s"`, element.show(), element.show())
			continue
		}
		if text, ok := element.str(); ok {
			if err := CheckPort(text); err != nil {
				element.fail(err.Error())
			}
		}
	}
	v.notBuilt()
}

func readScope(v value) {
	var scope string
	parsed(v, &scope, func(s string) (string, error) { return oneOf(s, "none", "group", "public", "any") })
	v.notBuilt()
}

func readDependsOn(v value) {
	for _, element := range v.list() {
		if text, ok := element.str(); ok {
			if err := CheckName(text); err != nil {
				element.fail(err.Error())
			}
		}
	}
	v.notBuilt()
}

// readCommand takes a list of arguments, or one string that is split as a shell would.
func readCommand(v value) []string {
	if _, ok := v.v.(string); ok {
		var words []string
		parsed(v, &words, Split)
		return words
	}
	words := readList(v, parseArgument)
	if len(words) == 0 && v.clean() {
		v.fail("no command in it: write the program and its arguments, or remove the key")
	}
	return words
}

func readScripts(s *Sandbox, v value) {
	for _, entry := range v.table() {
		if err := CheckScriptName(entry.name()); err != nil {
			entry.fail(err.Error())
			continue
		}
		if body, ok := entry.str(); ok {
			s.Scripts = append(s.Scripts, Script{Name: entry.name(), Body: body})
		}
	}
	slices.SortFunc(s.Scripts, func(a, b Script) int { return strings.Compare(a.Name, b.Name) })
}

// AbsoluteImage makes the path in an image reference that names a file or folder absolute: relative ones are relative to base.
func AbsoluteImage(ref, base string) string {
	for _, prefix := range []string{"oci:", "docker-archive:"} {
		if path, ok := strings.CutPrefix(ref, prefix); ok && path != "" && !filepath.IsAbs(path) {
			return prefix + filepath.Join(base, path)
		}
	}
	if ref == "." || ref == ".." || strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../") {
		return filepath.Join(base, ref)
	}
	return ref
}

// Suggest ends an error about an unknown name: the nearest known one, or all of them. Kind is their plural.
func Suggest(name string, known []string, kind string) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if len(known) == 0 {
		return "there are no " + kind
	}
	return fmt.Sprintf("the %s are %s", kind, strings.Join(known, ", "))
}
