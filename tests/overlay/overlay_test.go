package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/testenv"
	"github.com/micavm/mica/tests/tree"
	"github.com/micavm/mica/tests/userns"
)

func TestScripts(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "fuse-overlayfs")
	links := linkMica(t)
	root := testenv.Dir(t)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         root,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", links+":"+os.Getenv("PATH"))
			env.Setenv("LINKS", links)
			env.Defer(func() { unmountBelow(env.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sametree": sameTree,
			"asuser":   func(ts *testscript.TestScript, neg bool, args []string) { asUser(t, ts, neg, args) },
		},
	})
}

// linkMica is a folder that has mica under all its names, where everybody can execute it.
func linkMica(t *testing.T) string {
	t.Helper()
	dir := testenv.Dir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", testenv.Mica(t), filepath.Join(dir, "mica"))
	for _, name := range []string{"fuse-overlayfs", "mount.fuse.mica"} {
		if err := os.Symlink("mica", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sameTree is the script command "sametree A B": all that can be seen in both is the same, link counts and times aside.
func sameTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sametree folder folder")
	}
	var trees [2]tree.Tree
	for i, dir := range args {
		var err error
		trees[i], err = tree.Read(ts.MkAbs(dir), nil)
		ts.Check(err)
	}
	if lines := tree.Diff(trees[0], trees[1]); len(lines) > 0 {
		ts.Fatalf("%s and %s differ:\n%s", args[0], args[1], strings.Join(lines, "\n"))
	}
}

// asUser is the script command "asuser FILE": the shell script FILE, as root of an ordinary user's namespace.
func asUser(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: asuser file")
	}
	cmd := userns.Command(t, ts.Getenv("WORK"), "sh", "-eu", ts.MkAbs(args[0]))
	cmd.Env = append(cmd.Env, "PATH="+ts.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	ts.Check(err)
}

// unmountBelow removes what a script has left mounted.
func unmountBelow(dir string) {
	out, err := exec.Command("findmnt", "-rno", "TARGET").Output()
	if err != nil {
		return
	}
	for target := range strings.Lines(string(out)) {
		if target = strings.TrimSpace(target); strings.HasPrefix(target, dir+"/") {
			_ = unix.Unmount(target, unix.MNT_DETACH)
		}
	}
}
