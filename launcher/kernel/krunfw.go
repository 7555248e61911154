package kernel

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

const libkrunfwName = "libkrunfw.so.5"

// findLibkrunfw gives the library's path, or "".
func findLibkrunfw(getenv func(string) string) string {
	if path := getenv("MICA_LIBKRUNFW"); path != "" {
		return path
	}
	folders := filepath.SplitList(getenv("LD_LIBRARY_PATH"))
	folders = append(folders, "/usr/local/lib64", "/usr/local/lib", "/usr/lib64", "/usr/lib",
		"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
	for _, folder := range folders {
		path := filepath.Join(folder, libkrunfwName)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// extracted gives the path of an ELF file with library's kernel, and writes it when cacheDir has none of this very library.
func extracted(library, cacheDir string) (string, error) {
	id, err := contentID(library)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cacheDir, "libkrunfw-"+id+".elf")
	if isKernel(path) {
		return path, nil
	}
	return path, publish(path, func(w io.Writer) error {
		return withKernel(library, func(k flatKernel) error { return writeELF(w, k) })
	})
}

// isKernel says whether the file at path is there, and whole.
func isKernel(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return checkFormat(file) == nil
}

// contentID is a file name for what library holds: the linker's build ID, which is a digest of the contents, or else our own digest.
func contentID(library string) (string, error) {
	file, err := elf.Open(library)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if section := file.Section(".note.gnu.build-id"); section != nil {
		// A note's header is 12 bytes, the name "GNU\0" 4, and the rest is the ID.
		if note, err := section.Data(); err == nil && len(note) >= 16+8 {
			return hex.EncodeToString(note[16:]), nil
		}
	}
	whole, err := os.Open(library)
	if err != nil {
		return "", err
	}
	defer whole.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, whole); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// withKernel calls use with the kernel in library, whose memory is the library's: it is gone afterwards.
func withKernel(library string, use func(flatKernel) error) error {
	// dlopen takes a name without a slash for one to search for.
	library, err := filepath.Abs(library)
	if err != nil {
		return err
	}
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return err
	}
	defer purego.Dlclose(handle)
	symbol, err := purego.Dlsym(handle, "krunfw_get_kernel")
	if err != nil {
		return err
	}
	// char *krunfw_get_kernel(uint64_t *load, uint64_t *entry, size_t *size)
	var get func(load, entry, size *uint64) unsafe.Pointer
	purego.RegisterFunc(&get, symbol)
	var load, entry, size uint64
	image := get(&load, &entry, &size)
	if image == nil || size == 0 {
		return errors.New("it holds no kernel")
	}
	return use(flatKernel{image: unsafe.Slice((*byte)(image), size), load: load, entry: entry})
}

// publish writes path by a rename, so that it is whole or not there.
func publish(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimSuffix(filepath.Base(path), ".elf")+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	err = errors.Join(write(temporary), temporary.Chmod(0o644), temporary.Sync(), temporary.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(temporary.Name(), path)
}
