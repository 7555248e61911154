package launcher

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/micavm/mica/launcher/spec"
)

// What a sandbox has when neither the command line nor mica.toml says otherwise.
const (
	defaultCPUs      = 1
	defaultMemoryMiB = 512
	defaultPath      = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// A Request is what the command line asks for. What it leaves out has its zero value.
type Request struct {
	File    *spec.File    // nil for a throw-away sandbox
	Sandbox *spec.Sandbox // of File, resolved; nil for a throw-away sandbox
	Name    string        // of a throw-away sandbox

	Script string   // to run, in place of what the sandbox starts with
	Exec   string   // a program to run; it wins over Script
	Args   []string // for what runs; nil when there was no --, which is not the same as no arguments after it

	CPUs            int
	MemoryMiB       int
	HostMemoryMiB   int // what the host has: no sandbox may ask for more; 0 when unknown
	Disk            uint64
	Workdir         string
	User            string
	Env             []spec.EnvVar // those of files first
	Volumes         []spec.Volume // resolved
	Kernel          string
	VMM             string
	Transport       string
	NoImageDefaults bool
}

// An ImageDefaults is what an image's configuration says about running it.
type ImageDefaults struct {
	Env        []string // KEY=VALUE
	Dir        string
	User       string
	Entrypoint []string
	Cmd        []string
}

// Check finds what is wrong with the request whatever the image is, so that it can be said before an image is pulled.
func (r Request) Check() error {
	s := r.sandbox()
	if r.Exec == "" && r.Script != "" {
		if err := checkScript(s, r.Script); err != nil {
			return err
		}
	}
	if err := spec.CheckOverlap(r.volumes()); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	if asked := cmp.Or(r.MemoryMiB, s.MemoryMiB, defaultMemoryMiB); r.HostMemoryMiB > 0 && asked > r.HostMemoryMiB {
		return &hinted{ErrNoMemory, fmt.Sprintf("not enough memory: %d MiB asked, the host has %d MiB: ask for less with --memory or the key memory", asked, r.HostMemoryMiB)}
	}
	return nil
}

// sandbox is that of mica.toml, or one without any key.
func (r Request) sandbox() *spec.Sandbox {
	if r.Sandbox == nil {
		return &spec.Sandbox{Name: r.Name}
	}
	return r.Sandbox
}

func (r Request) volumes() []spec.Volume {
	return append(append([]spec.Volume(nil), r.sandbox().Volumes...), r.Volumes...)
}

func checkScript(s *spec.Sandbox, name string) error {
	if _, ok := s.Script(name); ok || name == shellScript {
		return nil
	}
	known := []string{shellScript}
	for _, script := range s.Scripts {
		known = append(known, script.Name)
	}
	return fmt.Errorf("no script %q in sandbox %s: %s", name, s.Name, spec.Suggest(name, known, "scripts"))
}

// ThrowAwayName makes a name for a sandbox that has none.
func ThrowAwayName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand ends the program first
	return "run-" + hex.EncodeToString(b[:])
}

var errNothingToRun = errors.New(`nothing to run: the image has no command; give one after --, or with --exec, or write a start script, command or shell in mica.toml`)
