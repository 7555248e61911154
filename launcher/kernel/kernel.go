package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// ErrNoKernel means that no kernel is where Find looks.
var ErrNoKernel = errors.New("no guest kernel found: make one with `make kernel`, install libkrunfw, or name one with --kernel")

// A Kernel is a file that every monitor boots.
type Kernel struct {
	Path      string // an uncompressed ELF with a PVH entry note
	Initramfs bool   // whether it unpacks an initramfs
	Source    string // where it was found, for messages: --kernel, mica.toml, $MICA_KERNEL, our own, or libkrunfw's path
}

// A Search says where to look, in order. The environment's $MICA_KERNEL comes before the kernel of our own, and
// $MICA_LIBKRUNFW, a file, before the usual library folders.
type Search struct {
	Flag       string // the value of --kernel, or ""
	Configured string // the value in mica.toml, absolute, or ""
	DataDir    string // $XDG_DATA_HOME/mica: kernels/vmlinux-GOARCH in it is the kernel of our own
	CacheDir   string // $XDG_CACHE_HOME/mica: keeps the kernel taken out of libkrunfw
}

// OwnPath is where `make kernel` puts the kernel of our own.
func OwnPath(dataDir string) string {
	return filepath.Join(dataDir, "kernels", "vmlinux-"+runtime.GOARCH)
}

// Find gives the first kernel of s. A kernel that was asked for and is missing or unfit is an error; so is a kernel of our own that is unfit.
// The error is ErrNoKernel when there is none at all.
func Find(ctx context.Context, s Search) (Kernel, error) {
	for _, asked := range []struct{ path, source string }{
		{s.Flag, "--kernel"},
		{s.Configured, "mica.toml"},
		{os.Getenv("MICA_KERNEL"), "$MICA_KERNEL"},
	} {
		if asked.path != "" {
			return open(asked.path, asked.source)
		}
	}
	own, err := open(OwnPath(s.DataDir), "our own")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return own, err
	}
	library := findLibkrunfw(os.Getenv)
	if library == "" {
		return Kernel{}, ErrNoKernel
	}
	if err := ctx.Err(); err != nil {
		return Kernel{}, err
	}
	path, err := extracted(library, s.CacheDir)
	if err != nil {
		return Kernel{}, fmt.Errorf("take the kernel out of %s: %w", library, err)
	}
	return open(path, library)
}

func open(path, source string) (Kernel, error) {
	image, err := os.Open(path)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel (%s): %w", source, err)
	}
	defer image.Close()
	initramfs, err := inspect(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s (%s): %w", path, source, err)
	}
	return Kernel{Path: path, Initramfs: initramfs, Source: source}, nil
}
