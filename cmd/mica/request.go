package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/launcher/spec"
)

// which is how run and mount are told which sandbox is meant.
type which struct {
	Name  string `arg:"" optional:"" help:"A sandbox of mica.toml." placeholder:"NAME"`
	Image string `help:"A throw-away sandbox of this image: a registry reference, oci:DIR[:TAG], docker-archive:FILE or a folder." placeholder:"REF"`
	File  string `short:"f" help:"The configuration: mica.toml, or the folder it is in. Default: the nearest, from here upward." placeholder:"FILE"`
}

// A target is a sandbox to be planned, and the image it is made of.
type target struct {
	request   launcher.Request
	reference string
}

// target finds the sandbox. Name is Name without a script.
func (w *which) target(name string) (target, error) {
	switch {
	case w.Image != "" && name != "":
		return target{}, errors.New("a sandbox's name and --image exclude each other: give one of them, and a command after --")
	case w.Image != "" && w.File != "":
		return target{}, errors.New("--file and --image exclude each other: give one of them")
	case w.Image != "":
		return throwAway(w.Image)
	case name == "":
		return target{}, errors.New("nothing to run: name a sandbox of mica.toml, or give --image REF")
	}
	path, err := configuration(w.File)
	if err != nil {
		return target{}, err
	}
	file, err := spec.Load(path)
	if err != nil {
		return target{}, err
	}
	sandbox, err := file.Sandbox(name)
	if err != nil {
		return target{}, err
	}
	if sandbox, err = sandbox.Resolve(); err != nil {
		return target{}, err
	}
	return target{launcher.Request{File: file, Sandbox: sandbox}, sandbox.Image}, nil
}

func throwAway(image string) (target, error) {
	ref, err := spec.ParseImage(image)
	if err != nil {
		return target{}, fmt.Errorf("--image: %w", err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		return target{}, err
	}
	return target{launcher.Request{Name: launcher.ThrowAwayName()}, spec.AbsoluteImage(ref, cwd)}, nil
}

// configuration is the path of mica.toml, as short as it can be said from here.
func configuration(given string) (string, error) {
	if given == "" {
		return nearestConfiguration()
	}
	info, err := os.Stat(given)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("--file: no file %s: name mica.toml, or the folder it is in", given)
	}
	if err != nil {
		return "", fmt.Errorf("--file: %w", err)
	}
	if !info.IsDir() {
		return given, nil
	}
	path := filepath.Join(given, spec.FileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("--file: no %s in %s: write one with mica init", spec.FileName, given)
	}
	return path, nil
}

func nearestConfiguration() (string, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	path, err := spec.Find(cwd)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no %s in %s or in a folder above it: write one with mica init, or give --image REF", spec.FileName, cwd)
	}
	if err != nil {
		return "", err
	}
	if short, err := filepath.Rel(cwd, path); err == nil && len(short) < len(path) {
		return short, nil
	}
	return path, nil
}

// machineFlags are the flags of run that change what mica.toml and the image say.
type machineFlags struct {
	Env             []string `short:"e" sep:"none" help:"A variable of the environment." placeholder:"KEY=VALUE"`
	EnvFile         []string `sep:"none" help:"A file of KEY=VALUE lines; mica never shows what is in it." placeholder:"FILE"`
	Volume          []string `short:"v" sep:"none" help:"A host folder in the guest: HOST:GUEST, HOST:GUEST:ro, or PATH for both." placeholder:"VOLUME"`
	Workdir         string   `short:"w" help:"The folder in the guest that the command starts in." placeholder:"DIR"`
	User            string   `short:"u" help:"Who runs it: NAME, UID, NAME:GROUP or UID:GID." placeholder:"USER"`
	CPUs            string   `name:"cpus" short:"c" help:"Virtual CPUs, 1 to 64." placeholder:"N"`
	Memory          string   `short:"m" help:"Memory: MiB, or with a unit, like 2GiB." placeholder:"SIZE"`
	Disk            string   `help:"The most that changes to the root may take: MiB, or with a unit." placeholder:"SIZE"`
	Kernel          string   `help:"The guest's kernel: an uncompressed ELF." placeholder:"FILE"`
	VMM             string   `name:"vmm" help:"The virtual machine monitor: auto, krun or qemu." placeholder:"VMM"`
	Transport       string   `help:"How the root reaches the guest: auto, vhost-user, virtiofsd or krun." placeholder:"TRANSPORT"`
	NoImageDefaults bool     `help:"Leave out the image's own command, environment, workdir and user."`
}

// apply puts the flags into r. All that are wrong are reported, a line each.
func (f *machineFlags) apply(r *launcher.Request) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	var errs []error
	note := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	for _, path := range f.EnvFile {
		vars, err := spec.ReadEnvFile(path)
		note("env-file", err)
		r.Env = append(r.Env, vars...)
	}
	for _, text := range f.Env {
		v, err := spec.ParseEnv(text)
		note("env", err)
		r.Env = append(r.Env, v)
	}
	for _, text := range f.Volume {
		v, err := spec.ParseVolume(text)
		if err == nil {
			v, err = v.Resolve(cwd)
		}
		note("volume", err)
		r.Volumes = append(r.Volumes, v)
	}
	var disk int
	note("workdir", setFlag(f.Workdir, &r.Workdir, spec.ParseWorkdir))
	note("user", setFlag(f.User, &r.User, spec.ParseUser))
	note("cpus", setFlag(f.CPUs, &r.CPUs, spec.ParseCPUs))
	note("memory", setFlag(f.Memory, &r.MemoryMiB, spec.ParseMemory))
	note("disk", setFlag(f.Disk, &disk, spec.ParseDisk))
	note("kernel", setFlag(f.Kernel, &r.Kernel, existingFile))
	note("vmm", setFlag(f.VMM, &r.VMM, spec.ParseVMM))
	note("transport", setFlag(f.Transport, &r.Transport, spec.ParseTransport))
	r.Disk = uint64(disk) << 20
	r.NoImageDefaults = f.NoImageDefaults
	r.HostMemoryMiB = hostMemoryMiB()
	return errors.Join(errs...)
}

// setFlag parses a flag that was given.
func setFlag[T any](text string, into *T, parse func(string) (T, error)) error {
	if text == "" {
		return nil
	}
	v, err := parse(text)
	if err == nil {
		*into = v
	}
	return err
}

func existingFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("no kernel %s: build one with make kernel, or leave the flag out", path)
	}
	return filepath.Abs(path)
}

// hostMemoryMiB is what /proc/meminfo says the host has, or 0.
func hostMemoryMiB() int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				return 0
			}
			return kib / 1024
		}
	}
	return 0
}
