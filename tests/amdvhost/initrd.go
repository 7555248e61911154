package amdvhost

import (
	_ "embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/micavm/mica/initramfs"
)

//go:embed init.sh
var initScript []byte

// writeInitrd writes the emulated host's initramfs: init.sh, busybox, and the modules of folder amdv.
func writeInitrd(w io.Writer, amdv string) error {
	files := []initramfs.File{{Path: "init", Mode: 0o755, Data: initScript}}
	for _, folder := range []string{"bin", "dev", "modules", "proc", "root", "sys"} {
		files = append(files, initramfs.File{Path: folder, Mode: fs.ModeDir | 0o755})
	}
	modules, err := filepath.Glob(filepath.Join(amdv, "modules", "*.ko"))
	if err != nil {
		return err
	}
	for _, path := range append(modules, filepath.Join(amdv, "busybox")) {
		contents, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(amdv, path)
		if err != nil {
			return err
		}
		files = append(files, initramfs.File{Path: name, Mode: 0o755, Data: contents})
	}
	return initramfs.Write(w, files)
}
