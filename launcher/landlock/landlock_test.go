package landlock_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micavm/mica/launcher/landlock"
)

// TestMain lets the test binary be the process that confines itself: its arguments are the rules and a shell command.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "confine" {
		var rules landlock.Rules
		err := json.Unmarshal([]byte(os.Args[2]), &rules)
		if err == nil {
			err = landlock.Exec(rules, "/bin/sh", []string{"sh", "-c", os.Args[3]}, os.Environ())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	os.Exit(m.Run())
}

func TestExec(t *testing.T) {
	if _, err := landlock.Version(); errors.Is(err, landlock.ErrUnsupported) {
		t.Log("this kernel has no Landlock: only that programs start unconfined is tested")
	}
	system := []string{"/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/dev"}
	for _, test := range []struct {
		name    string
		command string
		allowed bool
	}{
		{"read what is allowed", "cat $D/read/file", true},
		{"write where only reading is allowed", "echo x 2>/dev/null >$D/read/file", false},
		{"make where only reading is allowed", "mkdir $D/read/new 2>/dev/null", false},
		{"read elsewhere", "cat $D/secret/file 2>/dev/null", false},
		{"list elsewhere", "ls $D/secret 2>/dev/null", false},
		{"write where it is allowed", "echo x >$D/write/file && mkdir $D/write/new && rm -r $D/write/new $D/write/file", true},
		{"a path that is not there", "test ! -e $D/absent", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"read", "secret", "write"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name, "file"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rules, err := json.Marshal(landlock.Rules{
				Read:  append(system, filepath.Join(dir, "read"), filepath.Join(dir, "absent")),
				Write: []string{filepath.Join(dir, "write"), "/dev/null"},
			})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0], "confine", string(rules), test.command)
			cmd.Env = append(os.Environ(), "D="+dir)
			out, err := cmd.CombinedOutput()
			_, unsupported := landlock.Version()
			if want := test.allowed || unsupported != nil; (err == nil) != want {
				t.Errorf("%s: %v, output %q; allowed should be %v", test.command, err, strings.TrimSpace(string(out)), want)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	version, err := landlock.Version()
	scoped := err == nil && version >= 6
	for _, may := range []bool{false, true} {
		rules, err := json.Marshal(landlock.Rules{Read: []string{"/"}, Write: []string{"/dev/null"}, Signals: may})
		if err != nil {
			t.Fatal(err)
		}
		err = exec.Command(os.Args[0], "confine", string(rules), "kill -0 $PPID 2>/dev/null").Run()
		if want := may || !scoped; (err == nil) != want {
			t.Errorf("a signal to the parent, which may be signalled: %v: %v", may, err)
		}
	}
}
