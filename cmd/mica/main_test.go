package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/tests/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mica": main})
}

func TestScripts(t *testing.T) {
	images := testenv.Cache(t, "images")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("IMAGES", images)
			for _, name := range []string{"XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "MICA_KERNEL", "MICA_LIBKRUN"} {
				env.Setenv(name, "")
			}
			env.Defer(func() { _ = launcher.Unmount(filepath.Join(env.WorkDir, "at"), true) }) // what a failed script left
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": expectStatus, "killserver": killServer},
	})
}
