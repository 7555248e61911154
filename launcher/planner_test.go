package launcher_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/launcher/spec"
)

// request asks for the sandbox a of a mica.toml with these keys.
func request(t *testing.T, keys string) launcher.Request {
	t.Helper()
	file, err := spec.Parse([]byte("[sandbox.a]\nimage = \"x\"\n"+keys), "/project/mica.toml", "mica.toml")
	if err != nil {
		t.Fatal(err)
	}
	return launcher.Request{File: file, Sandbox: file.Sandboxes["a"]}
}

var image = launcher.ImageDefaults{
	Env:        []string{"PATH=/image", "A=image", "B=image"},
	Dir:        "/image",
	User:       "imager",
	Entrypoint: []string{"/entry"},
	Cmd:        []string{"cmd", "of image"},
}

func TestWhatRuns(t *testing.T) {
	const scripts = "scripts = { start = \"a\", test = \"b\" }\n"
	const command = "command = [\"serve\", \"-p\", \"80\"]\n"
	const shell = "shell = \"/bin/bash -e\"\n"
	start, test := "/.sandbox/scripts/start", "/.sandbox/scripts/test"
	none := launcher.ImageDefaults{}
	tests := []struct {
		name  string
		keys  string
		edit  func(*launcher.Request)
		image launcher.ImageDefaults
		want  []string
	}{
		{"exec before script", scripts, func(r *launcher.Request) { r.Exec, r.Script = "/bin/id", "test" }, image, []string{"/bin/id"}},
		{"exec with arguments", scripts, func(r *launcher.Request) { r.Exec, r.Args = "id", []string{"-u"} }, image, []string{"id", "-u"}},
		{"exec is not split", "", func(r *launcher.Request) { r.Exec = "/a b" }, image, []string{"/a b"}},
		{"script before start", scripts, func(r *launcher.Request) { r.Script = "test" }, image, []string{test}},
		{"script with arguments", scripts, func(r *launcher.Request) { r.Script, r.Args = "test", []string{"-v"} }, image, []string{test, "-v"}},
		{"start before command", scripts + command + shell, nil, image, []string{start}},
		{"start with arguments", scripts, func(r *launcher.Request) { r.Args = []string{"x"} }, image, []string{start, "x"}},
		{"command before the image's", command + shell, nil, image, []string{"serve", "-p", "80"}},
		{"arguments replace the command's", command, func(r *launcher.Request) { r.Args = []string{"-h"} }, image, []string{"serve", "-h"}},
		{"no arguments replace the command's", command, func(r *launcher.Request) { r.Args = []string{} }, image, []string{"serve"}},
		{"the image's before the shell", shell, nil, image, []string{"/entry", "cmd", "of image"}},
		{"arguments replace the image's cmd", "", func(r *launcher.Request) { r.Args = []string{"x"} }, image, []string{"/entry", "x"}},
		{"cmd alone", "", nil, launcher.ImageDefaults{Cmd: []string{"sh"}}, []string{"sh"}},
		{"shell without image defaults", shell, func(r *launcher.Request) { r.NoImageDefaults = true }, image, []string{"/bin/bash", "-e"}},
		{"shell last", shell, nil, none, []string{"/bin/bash", "-e"}},
		{"the script shell", scripts + shell, func(r *launcher.Request) { r.Script, r.Args = "shell", []string{"-x"} }, image, []string{"/bin/bash", "-e", "-x"}},
		{"the script shell, nothing configured", "", func(r *launcher.Request) { r.Script = "shell" }, none, []string{"/bin/sh"}},
		{"a script shell of one's own", "scripts = { shell = \"x\" }", func(r *launcher.Request) { r.Script = "shell" }, none, []string{"/.sandbox/scripts/shell"}},
		{"a relative program is the workdir's", "command = [\"./run\"]\nworkdir = \"/srv\"", nil, none, []string{"/srv/run"}},
		{"throw-away: the arguments are the command", "", func(r *launcher.Request) { throwAway(r); r.Args = []string{"/bin/sh", "-c", "id"} }, image, []string{"/bin/sh", "-c", "id"}},
		{"throw-away: the image's", "", throwAway, image, []string{"/entry", "cmd", "of image"}},
		{"throw-away: exec", "", func(r *launcher.Request) { throwAway(r); r.Exec, r.Args = "id", []string{"-u"} }, image, []string{"id", "-u"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(t, test.keys)
			if test.edit != nil {
				test.edit(&r)
			}
			p, err := launcher.NewPlan(r, launcher.Image{}, test.image)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p.Args, test.want) {
				t.Errorf("got %q, want %q", p.Args, test.want)
			}
		})
	}
}

func throwAway(r *launcher.Request) { r.File, r.Sandbox, r.Name = nil, nil, "run-00000000" }

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, keys string
		edit       func(*launcher.Request)
		kind       error
		want       string
	}{
		{"nothing to run", "", nil, nil, "nothing to run: the image has no command; give one after --, or with --exec, or write a start script, command or shell in mica.toml"},
		{"unknown script", "scripts = { test = \"\" }", func(r *launcher.Request) { r.Script = "tset" }, nil, `no script "tset" in sandbox a: did you mean test?`},
		{"unknown script of a throw-away", "", func(r *launcher.Request) { throwAway(r); r.Script = "build" }, nil, `no script "build" in sandbox run-00000000: the scripts are shell`},
		{"memory of the file", "memory = \"2GiB\"", func(r *launcher.Request) { r.HostMemoryMiB = 2047 }, launcher.ErrNoMemory, "not enough memory: 2048 MiB asked, the host has 2047 MiB: ask for less with --memory or the key memory"},
		{"memory of the command line", "memory = 256", func(r *launcher.Request) { r.MemoryMiB, r.HostMemoryMiB = 512, 300 }, launcher.ErrNoMemory, "not enough memory: 512 MiB asked, the host has 300 MiB: ask for less with --memory or the key memory"},
		{"overlap of file and command line", "volumes = [\"/x:/srv\"]", func(r *launcher.Request) { r.Volumes = []spec.Volume{{Host: "/y", Guest: "/srv/a"}} }, nil, `volumes: "/srv/a" in the guest overlaps "/srv": choose paths of which none lies in the other`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(t, test.keys)
			if test.edit != nil {
				test.edit(&r)
			}
			_, err := launcher.NewPlan(r, launcher.Image{}, launcher.ImageDefaults{})
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
			if test.kind != nil && !errors.Is(err, test.kind) {
				t.Errorf("got %v, want an error that is %v", err, test.kind)
			}
		})
	}
}

func TestPrecedenceOfEverythingElse(t *testing.T) {
	const keys = "cpus = 2\nmemory = 256\ndisk = 1\nworkdir = \"/file\"\nuser = \"filer\"\nvmm = \"qemu\"\nkernel = \"/file/kernel\"\nhostname = \"h\"\nshell = \"/bin/sh\"\n"
	flags := func(r *launcher.Request) {
		r.CPUs, r.MemoryMiB, r.Disk, r.Workdir, r.User, r.VMM, r.Kernel, r.Transport = 3, 1024, 7, "/flag", "flagger", "krun", "/flag/kernel", "krun"
	}
	type outcome struct {
		cpus, memory                             int
		disk                                     uint64
		dir, user, vmm, kernel, transport, host_ string
	}
	tests := []struct {
		name string
		keys string
		edit func(*launcher.Request)
		want outcome
	}{
		{"flags", keys, flags, outcome{3, 1024, 7, "/flag", "flagger", "krun", "/flag/kernel", "krun", "h"}},
		{"the file", keys, nil, outcome{2, 256, 1 << 20, "/file", "filer", "qemu", "/file/kernel", "auto", "h"}},
		{"the image", "", nil, outcome{1, 512, 0, "/image", "imager", "auto", "", "auto", "a"}},
		{"nothing", "command = \"id\"", func(r *launcher.Request) { r.NoImageDefaults = true }, outcome{1, 512, 0, "/", "", "auto", "", "auto", "a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(t, test.keys)
			if test.edit != nil {
				test.edit(&r)
			}
			p, err := launcher.NewPlan(r, launcher.Image{}, image)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome{p.CPUs, p.MemoryMiB, p.Disk, p.Dir, p.User, p.VMM, p.Kernel, p.Transport, p.Hostname}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestPrecedenceOfEnv(t *testing.T) {
	r := request(t, "command = \"id\"\nscripts = { x = \"\" }")
	r.Sandbox.Env = []spec.EnvVar{{Key: "A", Value: "env_file", Secret: true}, {Key: "S", Value: "secret", Secret: true}, {Key: "C", Value: "file"}}
	r.Env = []spec.EnvVar{{Key: "C", Value: "--env-file", Secret: true}, {Key: "S", Value: "-e"}, {Key: "D", Value: "-e"}}
	p, err := launcher.NewPlan(r, launcher.Image{}, image)
	if err != nil {
		t.Fatal(err)
	}
	want := []launcher.EnvVar{
		{Key: "PATH", Value: "/image:/.sandbox/scripts"},
		{Key: "A", Value: "env_file", Secret: true},
		{Key: "B", Value: "image"},
		{Key: "S", Value: "-e"},
		{Key: "C", Value: "--env-file", Secret: true},
		{Key: "D", Value: "-e"},
	}
	if !reflect.DeepEqual(p.Env, want) {
		t.Errorf("got  %v\nwant %v", p.Env, want)
	}
}

func TestRedactedHidesWhatCameFromFiles(t *testing.T) {
	p := &launcher.Plan{Env: []launcher.EnvVar{{Key: "A", Value: "hunter2", Secret: true}, {Key: "B", Value: "shown"}}}
	text, err := json.Marshal(p.Redacted())
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Contains(s, "hunter2") || !strings.Contains(s, `"***"`) || !strings.Contains(s, "shown") {
		t.Errorf("got %s", s)
	}
	if p.Env[0].Value != "hunter2" {
		t.Error("the plan itself was changed")
	}
}

func TestUpper(t *testing.T) {
	for keys, want := range map[string]string{"command = \"id\"": "/project/.mica/a", "command = \"id\"\nread_only = true": ""} {
		p, err := launcher.NewPlan(request(t, keys), launcher.Image{}, image)
		if err != nil {
			t.Fatal(err)
		}
		if p.Upper != want || p.Project != "/project" || p.Config != "/project/mica.toml" {
			t.Errorf("%s: got %q in %q, %q", keys, p.Upper, p.Project, p.Config)
		}
	}
	r := request(t, "")
	throwAway(&r)
	p, err := launcher.NewPlan(r, launcher.Image{}, image)
	if err != nil {
		t.Fatal(err)
	}
	if p.Upper != "" || p.Project != "" || !p.ThrowAway || p.Name != "run-00000000" {
		t.Errorf("throw-away: got %+v", p)
	}
}

func TestScriptTexts(t *testing.T) {
	r := request(t, "shell = \"/bin/bash\"\n[sandbox.a.scripts]\nown = \"#!/usr/bin/python3\\nprint(1)\"\nstart = \"echo hi\"\n")
	p, err := launcher.NewPlan(r, launcher.Image{}, image)
	if err != nil {
		t.Fatal(err)
	}
	want := []launcher.Script{
		{Name: "own", Text: "#!/usr/bin/python3\nprint(1)\n"},
		{Name: "start", Text: "#!/bin/bash\necho hi\n"},
		{Name: "shell", Text: "#!/bin/bash\nexec /bin/bash \"$@\"\n"},
	}
	if !reflect.DeepEqual(p.Scripts, want) {
		t.Errorf("got  %q\nwant %q", p.Scripts, want)
	}
}

func TestReloadTakesTheScriptsOfNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mica.toml")
	text := func(body string) []byte {
		return []byte("[sandbox.a]\nimage = \"x\"\nscripts = { start = \"" + body + "\" }\n")
	}
	if err := os.WriteFile(path, text("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := spec.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launcher.NewPlan(launcher.Request{File: file, Sandbox: file.Sandboxes["a"]}, launcher.Image{}, image)
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.Reload(text("new"))
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Scripts[0].Text; got != "#!/bin/sh\nnew\n" {
		t.Errorf("got %q", got)
	}
	if got := p.Scripts[0].Text; got != "#!/bin/sh\nold\n" {
		t.Errorf("the plan itself was changed: %q", got)
	}
	if _, err := p.Reload(text("bro\nken")); err == nil {
		t.Error("a broken file was taken")
	}
}

func TestSynthetic(t *testing.T) {
	p := &launcher.Plan{
		Hostname: "web.local",
		Scripts:  []launcher.Script{{Name: "start", Text: "#!/bin/sh\n"}},
		Volumes:  []launcher.Volume{{Host: "/h", Guest: "/srv/www"}, {Host: "/h", Guest: "/etc/keys"}},
	}
	var got []string
	for _, e := range launcher.Synthetic(p, layers{}.read) {
		line := e.Path
		if e.IfMissing {
			line += " if missing"
		}
		got = append(got, line)
	}
	want := []string{
		"/.sandbox", "/.sandbox/scripts", "/.sandbox/scripts/start",
		"/dev if missing", "/etc if missing", "/etc/hostname", "/etc/hosts", "/etc/keys if missing", "/etc/resolv.conf",
		"/proc if missing", "/run if missing", "/srv if missing", "/srv/www if missing", "/sys if missing", "/tmp if missing",
	}
	got = without(got, "/.sandbox/init")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if text := string(entry(t, p, layers{}, "/etc/hosts").Data); !strings.Contains(text, "127.0.1.1\tweb.local web\n") {
		t.Errorf("hosts: %q", text)
	}
	if script := entry(t, p, layers{}, "/.sandbox/scripts/start"); script.Mode != 0o100755 {
		t.Errorf("mode of a script: %o", script.Mode)
	}
}

func TestResolvConfIsForImagesWithoutNameserver(t *testing.T) {
	for text, given := range map[string]bool{
		"":                            true,
		"# nameserver 1.2.3.4\n":      true,
		" nameserver 1.2.3.4\n":       true,
		"nameserver 1.2.3.4\n":        false,
		"search x\nnameserver ::1\n":  false,
		"options x\nnameserverx 1.1.": true,
	} {
		l := layers{"/etc/resolv.conf": text}
		var found bool
		for _, e := range launcher.Synthetic(&launcher.Plan{}, l.read) {
			found = found || e.Path == "/etc/resolv.conf"
		}
		if found != given {
			t.Errorf("%q: given is %v, want %v", text, found, given)
		}
	}
}

// layers are the files of an image.
type layers map[string]string

func (l layers) read(path string, _ int) ([]byte, error) {
	if text, ok := l[path]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func entry(t *testing.T, p *launcher.Plan, l layers, path string) fusefs.SyntheticEntry {
	t.Helper()
	for _, e := range launcher.Synthetic(p, l.read) {
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("no entry %s", path)
	return fusefs.SyntheticEntry{}
}

func without(list []string, drop string) []string {
	var out []string
	for _, s := range list {
		if s != drop {
			out = append(out, s)
		}
	}
	return out
}
