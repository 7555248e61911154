package amdvhost

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A Command is one process in the emulated host, as root. It reads nothing.
type Command struct {
	Args   []string  // Args[0] is a path, or a name to look up in Env's PATH
	Dir    string    // "" is /
	Env    []string  // KEY=VALUE; nil is this process's own
	Stdout io.Writer // written to as the output comes; nil discards it
	Stderr io.Writer
}

// virtiofsd is the program of QEMU's own source, which serves the root filesystem.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// memory of the emulated host.
const memory = "3G"

// Run boots an emulated host, runs commands there one after the other, whatever they return, and gives the exit status of each: 128+n for
// signal n, as a shell has it. A boot takes some seconds. The error is about the host, and ends with the last lines of its console.
func Run(ctx context.Context, commands ...Command) ([]int, error) {
	cache := os.Getenv("MICA_TEST_CACHE")
	if cache == "" {
		return nil, errors.New(`MICA_TEST_CACHE is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("the emulated host shares this machine's root filesystem, and that takes root")
	}
	h := &host{amdv: filepath.Join(cache, "amdv"), mark: "\n" + rand.Text() + "\n"}
	// Not under a test's own folder: that is too long for a socket's path.
	dir, err := os.MkdirTemp("/var/tmp", "amdvhost-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	h.dir = dir
	statuses, err := h.run(ctx, commands)
	if err != nil {
		return statuses, fmt.Errorf("emulated AMD-V host: %w\n%s", errors.Join(context.Cause(ctx), err), h.lastWords())
	}
	return statuses, nil
}

// A host is one emulated machine.
type host struct {
	amdv string // what setup.sh left
	dir  string // files of this run
	mark string // ends the output of a command
}

func (h *host) run(ctx context.Context, commands []Command) ([]int, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := h.writeFiles(commands); err != nil {
		return nil, err
	}
	files, err := h.startFiles(ctx)
	if err != nil {
		return nil, err
	}
	defer files.Wait()
	machine, ports, err := h.startMachine(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	defer machine.Wait()
	defer stop()
	var readers [3]*bufio.Reader
	for i, port := range ports {
		defer port.Close()
		readers[i] = bufio.NewReader(port)
	}
	statuses := make([]int, 0, len(commands))
	for _, c := range commands {
		status, err := h.follow(c, readers)
		if err != nil {
			return statuses, err
		}
		statuses = append(statuses, status)
	}
	return statuses, nil
}

func (h *host) writeFiles(commands []Command) error {
	initrd, err := os.Create(filepath.Join(h.dir, "initrd"))
	if err != nil {
		return err
	}
	if err := errors.Join(writeInitrd(initrd, h.amdv), initrd.Close()); err != nil {
		return fmt.Errorf("write the initramfs (tests/setup.sh fetches its parts): %w", err)
	}
	// printf of the shell gets the mark in one word
	return os.WriteFile(filepath.Join(h.dir, "script"), []byte(script(commands, quote(h.mark))), 0o644)
}

// follow copies the outputs of a command and gives its status.
func (h *host) follow(c Command, ports [3]*bufio.Reader) (int, error) {
	var outputs errgroup.Group
	for i, w := range []io.Writer{c.Stdout, c.Stderr} {
		if w == nil {
			w = io.Discard
		}
		outputs.Go(func() error { return copyUntil(w, ports[i], []byte(h.mark)) })
	}
	if err := outputs.Wait(); err != nil {
		return 0, fmt.Errorf("read the output of %s: %w", c.Args[0], err)
	}
	line, err := ports[2].ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("read the status of %s: %w", c.Args[0], err)
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

// startFiles serves this machine's root filesystem. The daemon makes the folder that it serves its root, which cannot be done
// with / itself, so it gets a bind mount of it, in a mount namespace of its own.
func (h *host) startFiles(ctx context.Context) (*exec.Cmd, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(h.dir, "fs.sock"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	inherited, err := listener.File()
	if err != nil {
		return nil, err
	}
	defer inherited.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `mount --bind / /mnt && exec "$@"`, "sh",
		virtiofsd, "--fd=3", "-o", "source=/mnt", "-o", "cache=auto", "-o", "xattr")
	cmd.ExtraFiles = []*os.File{inherited}
	return cmd, h.start(cmd, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL})
}

// startMachine starts QEMU, and gives the host's ends of three ports: standard output, standard error, statuses.
func (h *host) startMachine(ctx context.Context) (*exec.Cmd, [3]*os.File, error) {
	var ports [3]*os.File
	arguments := []string{
		"-machine", "q35,accel=tcg", "-cpu", "EPYC,+svm,+npt",
		// With two processors under multi-threaded TCG the kernel panics when KVM patches its static keys.
		"-smp", "1",
		"-m", memory, "-object", "memory-backend-memfd,id=mem,share=on,size=" + memory, "-numa", "node,memdev=mem",
		"-nodefaults", "-nographic", "-no-reboot", "-serial", "file:" + filepath.Join(h.dir, "console"),
		"-kernel", filepath.Join(h.amdv, "vmlinux"), "-initrd", filepath.Join(h.dir, "initrd"),
		"-append", "console=ttyS0 panic=-1 quiet mitigations=off lsm=lockdown,capability,landlock,yama amdvhost.script=" + filepath.Join(h.dir, "script"),
		"-chardev", "socket,id=fs,path=" + filepath.Join(h.dir, "fs.sock"), "-device", "vhost-user-fs-pci,chardev=fs,tag=hostroot",
		"-device", "virtio-serial-pci",
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", arguments...)
	for i := range ports {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, ports, fmt.Errorf("make a socket pair: %w", err)
		}
		ports[i] = os.NewFile(uintptr(pair[0]), "port")
		theirs := os.NewFile(uintptr(pair[1]), "port of the guest")
		defer theirs.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
		cmd.Args = append(cmd.Args,
			"-chardev", fmt.Sprintf("socket,id=port%d,fd=%d", i, 3+i),
			"-device", fmt.Sprintf("virtserialport,chardev=port%d,nr=%d,name=amdvhost.%d", i, 1+i, i))
	}
	return cmd, ports, h.start(cmd, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
}

// start starts cmd with its own words going to a file in h.dir.
func (h *host) start(cmd *exec.Cmd, attributes *syscall.SysProcAttr) error {
	log, err := os.Create(filepath.Join(h.dir, filepath.Base(cmd.Path)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, attributes
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s (tests/setup.sh installs it): %w", cmd.Path, err)
	}
	return nil
}

// lastWords gives the ends of the console and of the programs' own words.
func (h *host) lastWords() string {
	const lines = 20
	var all bytes.Buffer
	for _, name := range []string{"console", "qemu-system-x86_64.log", "sh.log"} {
		text, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil || len(text) == 0 {
			continue
		}
		last := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		fmt.Fprintf(&all, "--- %s\n%s\n", name, strings.Join(last[max(0, len(last)-lines):], "\n"))
	}
	return all.String()
}
