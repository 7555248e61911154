package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/fusefs/vhostuser"
	"github.com/micavm/mica/initramfs"
	"github.com/micavm/mica/launcher/qemu"
	"github.com/micavm/mica/launcher/vmm"
)

//go:embed bareinit/init.c
var bareInit []byte

// A bareBoot boots the kernel that mica boots, with the devices that mica has, and an init that does nothing.
type bareBoot struct {
	monitor vmm.VMM
	dir     string
	initrd  string
	root    *fusefs.FS
}

func newBareBoot(dir string) (*bareBoot, error) {
	monitor, err := qemu.New()
	if err != nil {
		return nil, err
	}
	b := &bareBoot{monitor: monitor, dir: dir, initrd: filepath.Join(dir, "bare.cpio")}
	if err := b.writeInitrd(); err != nil {
		return nil, err
	}
	b.root, err = fusefs.New(fusefs.Config{Layers: []fusefs.Layer{{Dir: dir}}})
	return b, err
}

func (b *bareBoot) writeInitrd() error {
	program := filepath.Join(b.dir, "bareinit")
	compiler := exec.Command("gcc", "-static", "-O2", "-x", "c", "-o", program, "-")
	compiler.Stdin = bytes.NewReader(bareInit)
	if out, err := compiler.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", compiler, err, out)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	file, err := os.Create(b.initrd)
	if err != nil {
		return err
	}
	defer file.Close()
	return initramfs.Write(file, []initramfs.File{
		{Path: "dev", Mode: fs.ModeDir | 0o755},
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "init", Mode: 0o755, Data: init},
	})
}

// boot gives the time from the monitor's start to its end.
func (b *bareBoot) boot() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	start := time.Now()
	socket := filepath.Join(b.dir, "fs.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		client := b.root.Connect(fusefs.ConnectOptions{Guest: true})
		defer client.Close()
		served <- vhostuser.Serve(ctx, listener, client, vhostuser.Options{Mount: client.ServerOptions(false)})
	}()
	machine, err := startMachine(ctx, b.monitor, vmm.Machine{
		Name: "bare", CPUs: 1, MemoryMiB: 512, Kernel: os.Getenv("MICA_KERNEL"), Initrd: b.initrd, Cmdline: "quiet",
		Shares: []vmm.Share{{Tag: "root", Socket: socket}}, Dir: b.dir,
	})
	if err != nil {
		return 0, err
	}
	if err := machine.wait(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	cancel()
	<-served
	return took, nil
}
