package programs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/micavm/mica/tests/testenv"
	"github.com/micavm/mica/tests/userns"
)

// few are the packages that are installed when the check is to be short.
var few = []string{"hello_*", "jq_*", "libjq1_*", "libonig5_*", "tree_*"}

// A program is a script of testdata, run inside a mount.
type program struct {
	name    string
	tools   []string
	prepare func(t *testing.T, dir string) // makes what it needs in dir, which has the folder lower
	sandbox bool                           // in the root of a sandbox of the Debian image
	short   string                         // the user that it is run as when the check is to be short; none: it takes minutes
}

var programs = []program{
	{name: "git", tools: []string{"git"}, prepare: makeRepository, short: "user"},
	{name: "sqlite", tools: []string{"sqlite3"}, short: "root"},
	{name: "rsync", tools: []string{"rsync", "setfacl", "setfattr"}, prepare: makeRepository, short: "root"},
	{name: "npm", tools: []string{"npm", "node"}, prepare: copyProject, short: "user"},
	{name: "dpkg", tools: []string{"dpkg-deb"}, prepare: copyDebian, sandbox: true, short: "user"},
	{name: "gobuild", tools: []string{"go"}, prepare: copySource},
}

// A user is how a program is run, and in which form the upper has its owners.
type user struct {
	name    string
	start   func(t testing.TB, dir string, args ...string) *exec.Cmd
	options string
}

// Root's upper is in the form of a sandbox's, the ordinary user's in that of container storage; a soak has each in both.
func users() []user {
	all := []user{
		{"root", asRoot, ",xattr_permissions=2"},
		{"user", userns.Command, ""},
	}
	if testenv.Soak() {
		all = append(all, user{"root with real owners", asRoot, ""}, user{"user with stored owners", userns.Command, ",xattr_permissions=2"})
	}
	return all
}

func TestPrograms(t *testing.T) {
	testenv.Root(t)
	for _, u := range users() {
		for _, p := range programs {
			if testenv.Soak() || p.short == u.name {
				t.Run(u.name+"/"+p.name, func(t *testing.T) { p.run(t, u) })
			}
		}
	}
}

func (p program) run(t *testing.T, u user) {
	for _, tool := range p.tools {
		testenv.Tool(t, tool)
	}
	dir := testenv.Dir(t)
	for _, name := range []string{"bin", "lower"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Run(t, "cp", testenv.Mica(t), filepath.Join(dir, "bin"))
	testenv.Run(t, "sh", "-c", `cp testdata/*.sh "$1"`, "sh", dir)
	if p.prepare != nil {
		p.prepare(t, dir)
	}
	args := []string{"sh", "overlay.sh", u.options, p.name}
	if p.sandbox {
		args = []string{"sh", "sandbox.sh", p.name}
	}
	execute(t, u.start(t, dir, args...))
}

// execute runs cmd and what it starts, with a limit: a hang is a failure like another.
func execute(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	limit := 4 * time.Minute
	if testenv.Soak() {
		limit = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out.String())
	}
}

// asRoot runs args in a mount namespace, so that nothing stays mounted.
func asRoot(_ testing.TB, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("unshare", append([]string{"--mount", "--"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, ".cache"), "XDG_DATA_HOME="+filepath.Join(dir, ".data"))
	return cmd
}

// makeRepository has a part of Go's own source in a repository of two commits, in the lower folder.
func makeRepository(t *testing.T, dir string) {
	source := filepath.Join(goRoot(t), "src")
	repository := filepath.Join(dir, "lower", "repository")
	if err := os.Mkdir(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) {
		testenv.Run(t, "git", append([]string{"-C", repository, "-c", "user.name=tester", "-c", "user.email=tester@localhost"}, args...)...)
	}
	git("init", "-q", "-b", "master")
	flags := "-L"
	if testenv.Soak() {
		flags = "-rL" // with the folders in them: 1,600 files
	}
	for _, folder := range []string{"net", "os"} {
		testenv.Run(t, "sh", "-c", `mkdir "$2" && cp "$3" "$1"/* "$2" 2>&1 | grep -v "omitting directory"; test -e "$2/file.go" || test -e "$2/ip.go"`, "sh",
			filepath.Join(source, folder), filepath.Join(repository, folder), flags)
		git("add", "--all")
		git("commit", "-qm", folder)
	}
}

func goRoot(t *testing.T) string {
	return strings.TrimSpace(testenv.Run(t, testenv.Tool(t, "go"), "env", "GOROOT"))
}

func copyProject(t *testing.T, dir string) {
	testenv.Run(t, "cp", "-r", testenv.Cache(t, "npm-project"), dir)
}

// copyDebian has the image and the packages in dir, where an ordinary user can read them.
func copyDebian(t *testing.T, dir string) {
	testenv.Run(t, "cp", "-r", testenv.Cache(t, "images", "debian"), filepath.Join(dir, "image"))
	debs := filepath.Join(dir, "debs")
	if testenv.Soak() {
		testenv.Run(t, "cp", "-r", testenv.Cache(t, "debs"), debs)
		return
	}
	if err := os.Mkdir(debs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range few {
		found, err := filepath.Glob(filepath.Join(testenv.Cache(t, "debs"), name))
		if err != nil || len(found) != 1 {
			t.Fatalf("packages %s: %q, want one", name, found)
		}
		testenv.Run(t, "cp", found[0], debs)
	}
}

// copySource has mica's source in the lower folder, with all that it imports.
func copySource(t *testing.T, dir string) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	lower := filepath.Join(dir, "lower", "mica")
	testenv.Run(t, "sh", "-euc", `mkdir "$2"; cd "$1"; cp -r go.mod go.sum cmd fusefs guest-init initramfs launcher layers "$2"; mkdir "$2/tests"; cp -r tests/tree "$2/tests"; go mod vendor -o "$2/vendor"`, "sh", root, lower)
}
