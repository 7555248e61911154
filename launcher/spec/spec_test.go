package spec_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/micavm/mica/launcher/spec"
)

func parse(text string) (*spec.File, error) {
	return spec.Parse([]byte(text), "/project/mica.toml", "mica.toml")
}

func TestEveryKeyIsRead(t *testing.T) {
	f, err := parse(`
[sandbox.web]
image = "oci:images/web:latest"
cpus = 2
memory = "1GiB"
disk = 2048
workdir = "/srv/"
env = ["A=1", "B=x=y"]
env_file = "secrets.env"
volumes = ["./src:/srv/src:ro", "/data", "cache"]
shell = "/bin/bash -eu"
command = "serve --name 'two words'"
user = "www:www"
hostname = "web.local"
read_only = true
kernel = "vmlinux"
vmm = "qemu"
scripts = { test = "go test", start = "go run ." }
`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Sandbox("web")
	if err != nil {
		t.Fatal(err)
	}
	want := spec.Sandbox{
		Name:      "web",
		Image:     "oci:/project/images/web:latest",
		CPUs:      2,
		MemoryMiB: 1024,
		Disk:      2 << 30,
		Workdir:   "/srv",
		Env:       []spec.EnvVar{{Key: "A", Value: "1"}, {Key: "B", Value: "x=y"}},
		EnvFiles:  []string{"secrets.env"},
		Volumes: []spec.Volume{
			{Host: "./src", Guest: "/srv/src", ReadOnly: true},
			{Host: "/data", Guest: "/data"},
			{Host: "cache", Guest: "/project/cache"},
		},
		Shell:    "/bin/bash -eu",
		Command:  []string{"serve", "--name", "two words"},
		Scripts:  []spec.Script{{Name: "start", Body: "go run ."}, {Name: "test", Body: "go test"}},
		User:     "www:www",
		Hostname: "web.local",
		ReadOnly: true,
		Kernel:   "vmlinux",
		VMM:      "qemu",
	}
	if !equalFields(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// equalFields compares what is exported.
func equalFields(a, b spec.Sandbox) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if va.Type().Field(i).IsExported() && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			return false
		}
	}
	return true
}

func TestEnvAsTableKeepsTheFilesOrder(t *testing.T) {
	f, err := parse("[sandbox.a]\nimage = \"x\"\n[sandbox.a.env]\nZ = \"1\"\nA = \"2\"\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.EnvVar{{Key: "Z", Value: "1"}, {Key: "A", Value: "2"}}
	if got := f.Sandboxes["a"].Env; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMistakes(t *testing.T) {
	const head = "[sandbox.web]\nimage = \"x\"\n" // two lines
	tests := []struct{ name, text, want string }{
		{"cpus of letters", head + `cpus = "zero"`, `mica.toml:3: sandbox.web.cpus: "zero" is not a whole number: write a number from 1 to 64`},
		{"no cpus", head + `cpus = 0`, `mica.toml:3: sandbox.web.cpus: 0 is out of range: write a number from 1 to 64`},
		{"half a cpu", head + `cpus = 0.5`, `mica.toml:3: sandbox.web.cpus: "0.5" is not a whole number: write a number from 1 to 64`},
		{"a decimal unit", head + `memory = "512MB"`, `mica.toml:3: sandbox.web.memory: "512MB" is not a size: write a number of MiB, or one with a unit like "512MiB" or "2GiB"`},
		{"little memory", head + `memory = 64`, `mica.toml:3: sandbox.web.memory: "64" is too little: write 128MiB or more`},
		{"much memory", head + `memory = "99999999999999999999g"`, `mica.toml:3: sandbox.web.memory: "99999999999999999999g" is too much: the limit is 1024TiB`},
		{"no disk", head + `disk = 0`, `mica.toml:3: sandbox.web.disk: "0" is too little: write 1MiB or more`},
		{"relative workdir", head + `workdir = "srv"`, `mica.toml:3: sandbox.web.workdir: "srv" is not an absolute path: start it with /`},
		{"env without =", head + "env = [\n  \"A=1\",\n  \"B\",\n]", `mica.toml:5: sandbox.web.env: "B" is not KEY=VALUE: write an = after the name`},
		{"env without a name", head + `env = ["=1"]`, `mica.toml:3: sandbox.web.env: "=1" has no name: write KEY=VALUE`},
		{"env of a number", head + `env = { A = 1 }`, `mica.toml:3: sandbox.web.env.A: 1 is not a string: put it in quotes`},
		{"env_file of a number", head + `env_file = 1`, `mica.toml:3: sandbox.web.env_file: 1 is not a string: put it in quotes`},
		{"volume to a relative path", head + `volumes = ["a:b"]`, `mica.toml:3: sandbox.web.volumes: "a:b" is not a volume: the guest's path "b" does not start with /`},
		{"volume with an option", head + `volumes = ["a:/b:rx"]`, `mica.toml:3: sandbox.web.volumes: "a:/b:rx" is not a volume: after HOST:GUEST only :ro may follow`},
		{"volume without a host", head + `volumes = [":/b"]`, `mica.toml:3: sandbox.web.volumes: ":/b" is not a volume: write HOST:GUEST, HOST:GUEST:ro or PATH`},
		{"volumes as a string", head + `volumes = "a:/b"`, `mica.toml:3: sandbox.web.volumes: "a:/b" is not a list: write ["a:/b"]`},
		{"volume in a volume", head + "volumes = [\"a:/x\",\n\"b:/x/y\"]", `mica.toml:4: sandbox.web.volumes: "/x/y" in the guest overlaps "/x": choose paths of which none lies in the other`},
		{"volume on a volume", head + `volumes = ["a:/x", "b:/x/"]`, `mica.toml:3: sandbox.web.volumes: "/x" in the guest is taken by "a" already: choose another path`},
		{"volume on /", head + `volumes = ["a:/"]`, `mica.toml:3: sandbox.web.volumes: "/" in the guest is the image's: mount the volume in a folder below it`},
		{"volume in /proc", head + `volumes = ["a:/x/../proc/a"]`, `mica.toml:3: sandbox.web.volumes: "/proc/a" in the guest is not a volume's to take: choose a path outside /proc`},
		{"65 volumes", head + "volumes = [" + numbered(65, `"a:/x%d",`) + "]", `mica.toml:3: sandbox.web.volumes: 65 volumes are too many: the limit is 64, so mount a folder that holds several`},
		{"bad port", head + `ports = ["80:http"]`, `mica.toml:3: sandbox.web.ports: "80:http" is not a port: write HOST:GUEST or PORT, numbers from 1 to 65535`},
		{"large port", head + `ports = ["65536"]`, `mica.toml:3: sandbox.web.ports: "65536" is not a port: write HOST:GUEST or PORT, numbers from 1 to 65535`},
		{"port as a number", head + `ports = [80]`, `mica.toml:3: sandbox.web.ports: 80 is a number: write it as a string, "80"`},
		{"ports", head + `ports = ["8080:80", "443"]`, `mica.toml:3: sandbox.web.ports: not built yet: remove the key`},
		{"bad scope", head + `scope = "all"`, `mica.toml:3: sandbox.web.scope: "all" is not known: write none, group, public or any`},
		{"scope", head + `scope = "public"`, `mica.toml:3: sandbox.web.scope: not built yet: remove the key`},
		{"depends_on", head + `depends_on = ["db"]`, `mica.toml:3: sandbox.web.depends_on: not built yet: remove the key`},
		{"relative shell", head + `shell = "bash"`, `mica.toml:3: sandbox.web.shell: "bash" is not a shell: write its absolute path in the guest`},
		{"open quote", head + `command = "echo 'a"`, `mica.toml:3: sandbox.web.command: "echo 'a" has a quote that is not closed: close it`},
		{"empty command", head + `command = []`, `mica.toml:3: sandbox.web.command: no command in it: write the program and its arguments, or remove the key`},
		{"script with a slash", head + `scripts = { "../x" = "" }`, `mica.toml:3: sandbox.web.scripts."../x": "../x" is not a name for a script: write one that can be a file's, without /`},
		{"script ..", head + `scripts = { ".." = "" }`, `mica.toml:3: sandbox.web.scripts."..": ".." is not a name for a script: write one that can be a file's, without /`},
		{"script of a number", head + `scripts = { a = 1 }`, `mica.toml:3: sandbox.web.scripts.a: 1 is not a string: put it in quotes`},
		{"bad user", head + `user = "a b"`, `mica.toml:3: sandbox.web.user: "a b" is not a user: write NAME, UID, NAME:GROUP or UID:GID`},
		{"bad hostname", head + `hostname = "a_b"`, `mica.toml:3: sandbox.web.hostname: "a_b" is not a hostname: write at most 63 letters, digits, . and -`},
		{"bad read_only", head + `read_only = "yes"`, `mica.toml:3: sandbox.web.read_only: "yes" is not true or false: write one of them`},
		{"bad vmm", head + `vmm = "kvm"`, `mica.toml:3: sandbox.web.vmm: "kvm" is not known: write auto, krun or qemu`},
		{"unknown key, near one", head + `cpu = 1`, `mica.toml:3: sandbox.web.cpu: unknown key: did you mean cpus?`},
		{"unknown key, far from all", head + `colour = 1`, `mica.toml:3: sandbox.web.colour: unknown key: the keys are ` + strings.Join(spec.Keys(), ", ")},
		{"unknown table", head + "[meta]\nx = 1", `mica.toml:3: meta: unknown key: write [sandbox.NAME] tables`},
		{"no image", "[sandbox.web]\ncpus = 1", `mica.toml:1: sandbox.web: no image: write image = "REFERENCE"`},
		{"empty image", "[sandbox.web]\nimage = \"\"", `mica.toml:2: sandbox.web.image: "" is not an image: write a reference, oci:DIR[:TAG], docker-archive:FILE or a folder that starts with ./ or /`},
		{"bad name", "\n[sandbox.Web]\nimage = \"x\"", `mica.toml:2: sandbox.Web: "Web" is not a name for a sandbox: write at most 63 of a-z, 0-9, _, . and -, and start with a letter or digit`},
		{"not a table", "sandbox.web = 1", `mica.toml:1: sandbox.web: 1 is not a table: write [sandbox.web]`},
		{"nothing", "", `mica.toml:1: no sandbox in it: write a [sandbox.NAME] table, or start over with mica init`},
		{"several", "[sandbox.web]\ncpus = 0\nimagee = \"x\"\nport = []\n", strings.Join([]string{
			`mica.toml:1: sandbox.web: no image: write image = "REFERENCE"`,
			`mica.toml:2: sandbox.web.cpus: 0 is out of range: write a number from 1 to 64`,
			`mica.toml:3: sandbox.web.imagee: unknown key: did you mean image?`,
			`mica.toml:4: sandbox.web.port: unknown key: did you mean ports?`,
		}, "\n")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error(); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestSyntaxErrorHasItsLine(t *testing.T) {
	_, err := parse("[sandbox.web]\nimage = \"x\ncpus = 1\n")
	if err == nil || !strings.HasPrefix(err.Error(), "mica.toml:2: ") || !strings.Contains(err.Error(), "not TOML: ") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownSandboxNamesTheNearest(t *testing.T) {
	f, err := parse("[sandbox.web]\nimage = \"x\"\n[sandbox.db]\nimage = \"x\"\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"wbe":      `no sandbox "wbe" in mica.toml: did you mean web?`,
		"frontend": `no sandbox "frontend" in mica.toml: the sandboxes are db, web`,
	} {
		if _, err := f.Sandbox(name); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secrets.env"), "# keys\n\nTOKEN=a=b c\r\n  ID=1\n")
	mkdir(t, filepath.Join(dir, "src"))
	if err := os.Symlink("src", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mica.toml"), `[sandbox.a]
image = "x"
env = ["ID=2"]
env_file = ["secrets.env"]
volumes = ["link:/src:ro"]
`)
	f, err := spec.Load(filepath.Join(dir, "mica.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Sandboxes["a"].Resolve()
	if err != nil {
		t.Fatal(err)
	}
	wantEnv := []spec.EnvVar{{Key: "TOKEN", Value: "a=b c", Secret: true}, {Key: "ID", Value: "1", Secret: true}, {Key: "ID", Value: "2"}}
	if !reflect.DeepEqual(s.Env, wantEnv) {
		t.Errorf("env: got %v, want %v", s.Env, wantEnv)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []spec.Volume{{Host: real, Guest: "/src", ReadOnly: true}}; !reflect.DeepEqual(s.Volumes, want) {
		t.Errorf("volumes: got %v, want %v", s.Volumes, want)
	}
}

func TestResolveNamesWhatTheHostLacks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	write(t, filepath.Join(dir, "bad.env"), "A=1\nhunter2\n")
	path := filepath.Join(dir, "mica.toml")
	write(t, path, `[sandbox.a]
image = "x"
env_file = ["none.env", "bad.env"]
volumes = [
  "gone:/a",
  "file:/b",
]
kernel = "vmlinux"
`)
	f, err := spec.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Sandboxes["a"].Resolve()
	if err == nil {
		t.Fatal("no error")
	}
	want := strings.ReplaceAll(`DIR/mica.toml:3: sandbox.a.env_file: no file DIR/none.env: create it, or name another
DIR/mica.toml:3: sandbox.a.env_file: DIR/bad.env:2: the line is not KEY=VALUE: mend it, or start it with #
DIR/mica.toml:5: sandbox.a.volumes: no folder DIR/gone on the host: create it, or remove the volume
DIR/mica.toml:6: sandbox.a.volumes: DIR/file on the host is not a folder: name the folder it is in
DIR/mica.toml:8: sandbox.a.kernel: no kernel DIR/vmlinux: build one with make kernel, or remove the key`, "DIR", dir)
	if err.Error() != want {
		t.Errorf("\ngot  %s\nwant %s", err, want)
	}
}

func TestTemplateLoadsAndNamesEveryKey(t *testing.T) {
	f, err := parse(spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Names(); !reflect.DeepEqual(got, []string{"dev"}) {
		t.Errorf("sandboxes: %v", got)
	}
	for _, key := range spec.Keys() {
		if !strings.Contains(spec.Template, key) {
			t.Errorf("the template does not mention %s", key)
		}
	}
}

func TestTemplatesExamplesLoad(t *testing.T) {
	var lines []string
	for _, line := range strings.Split(spec.Template, "\n") {
		if example, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(example, " = ") {
			if name, _, _ := strings.Cut(example, " = "); spec.Nearest(name, spec.Keys()) == name {
				line = example
			}
		}
		lines = append(lines, line)
	}
	f, err := parse(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Sandboxes["dev"]; s.Disk != 2<<30 || !s.ReadOnly || s.VMM != "auto" {
		t.Errorf("the examples were not read: %+v", s)
	}
}

func TestFindLooksUpward(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	mkdir(t, deep)
	if _, err := spec.Find(deep); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want not found", err)
	}
	write(t, filepath.Join(dir, "mica.toml"), "")
	mkdir(t, filepath.Join(dir, "a", "mica.toml")) // a folder of that name is none
	got, err := spec.Find(deep)
	if err != nil || got != filepath.Join(dir, "mica.toml") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		`a b`:              {"a", "b"},
		` a   "b c" `:      {"a", "b c"},
		`a 'b "c' "d 'e"`:  {"a", `b "c`, "d 'e"},
		`a\ b "\"\\\n" ''`: {"a b", `"\` + `\n`, ""},
		`x"y"'z'`:          {"xyz"},
	} {
		got, err := spec.Split(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "  ", `"a`, `a\`, "a\x00"} {
		if got, err := spec.Split(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{"512": 512, "512MiB": 512, "2GiB": 2048, "2g": 2048, "1 TiB": 1 << 20, "300m": 300} {
		if got, err := spec.ParseMemory(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "2GB", "2K", "1e3", "1073741825TiB"} {
		if got, err := spec.ParseMemory(text); err == nil {
			t.Errorf("%s: got %d, want an error", text, got)
		}
	}
}

func TestImagePathsAreTheProjects(t *testing.T) {
	for ref, want := range map[string]string{
		"debian:12":             "debian:12",
		"oci:a/b:tag":           "oci:/p/a/b:tag",
		"oci:/a:tag":            "oci:/a:tag",
		"docker-archive:../x":   "docker-archive:/x",
		"./rootfs":              "/p/rootfs",
		"../rootfs":             "/rootfs",
		".":                     "/p",
		"/rootfs":               "/rootfs",
		"repo@sha256:0123":      "repo@sha256:0123",
		"localhost:5000/a/b:1c": "localhost:5000/a/b:1c",
	} {
		if got := spec.AbsoluteImage(ref, "/p"); got != want {
			t.Errorf("%s: got %s, want %s", ref, got, want)
		}
	}
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte(spec.Template))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := spec.Parse(data, "/project/mica.toml", "mica.toml")
		var errs spec.Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("an error without a line: %v", err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, e := range errs {
			if e.Line < 1 || e.Line > lines || strings.ContainsAny(e.Error(), "\n\r") {
				t.Errorf("%d lines, and the error %q", lines, e.Error())
			}
		}
		if err != nil {
			return
		}
		for name, s := range file.Sandboxes {
			if spec.CheckName(name) != nil || s.Image == "" || spec.CheckOverlap(s.Volumes) != nil {
				t.Errorf("accepted %q: %+v", name, s)
			}
			for _, script := range s.Scripts {
				if spec.CheckScriptName(script.Name) != nil {
					t.Errorf("accepted the script %q", script.Name)
				}
			}
		}
	})
}

// numbered is n times text, with a number in each.
func numbered(n int, text string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, text, i)
	}
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
