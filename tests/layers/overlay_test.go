package layers

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/testenv"
)

// mountOverlay has the kernel's overlayfs show layers, the lowest first, each unpacked by GNU tar.
func mountOverlay(t *testing.T, tars []string) string {
	t.Helper()
	dir := testenv.Dir(t)
	var lower []string
	for number, file := range tars {
		layer := filepath.Join(dir, strconv.Itoa(number))
		unpackLayer(t, file, layer)
		lower = append(lower, layer)
	}
	slices.Reverse(lower)
	merged := filepath.Join(dir, "merged")
	if err := os.Mkdir(merged, 0o755); err != nil {
		t.Fatal(err)
	}
	options := "lowerdir=" + strings.Join(lower, ":")
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount overlay -o %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Error(err)
		}
	})
	return merged
}

func unpackLayer(t *testing.T, file, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, testenv.Tool(t, "tar"), "-C", dir, "-xpf", file, "--exclude=.wh.*", "--numeric-owner", "--xattrs", "--xattrs-include=*")
	for _, name := range whiteouts(t, file) {
		if err := hide(dir, name); err != nil {
			t.Fatal(err)
		}
	}
}

// whiteouts gives the names of a layer's whiteouts, as the archive has them.
func whiteouts(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if strings.HasPrefix(path.Base(header.Name), ".wh.") {
			names = append(names, header.Name)
		}
	}
}

// hide says in overlayfs's words what the whiteout name says in OCI's.
func hide(dir, name string) error {
	folder := filepath.Join(dir, path.Dir(name))
	hidden := strings.TrimPrefix(path.Base(name), ".wh.")
	// umoci also hides what was in a folder that is a file or a link now: there is nothing left to hide.
	info, err := os.Lstat(folder)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.Join(os.MkdirAll(folder, 0o755), hide(dir, name))
	case err != nil:
		return err
	case !info.IsDir():
		return nil
	case hidden == ".wh..opq":
		return unix.Setxattr(folder, "trusted.overlay.opaque", []byte("y"), 0)
	}
	return unix.Mknod(filepath.Join(folder, hidden), unix.S_IFCHR, 0)
}
