// Package testenv says where the things are that tests/setup.sh has made. It makes nothing: a test that lacks something fails, and names
// the command that mends it.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const mend = `run tests/setup.sh and make build, then eval "$(tests/setup.sh env)"`

// Mica is the built program, bin/mica.
func Mica(t testing.TB) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	return exists(t, filepath.Join(root, "bin", "mica"))
}

// Cache is a path under the folder that tests/setup.sh fills.
func Cache(t testing.TB, elem ...string) string {
	t.Helper()
	return exists(t, filepath.Join(append([]string{variable(t, "MICA_TEST_CACHE")}, elem...)...))
}

// Kernel is a guest kernel that unpacks an initramfs.
func Kernel(t testing.TB) string { return file(t, "MICA_KERNEL") }

// KernelWithoutInitramfs is a guest kernel that boots from virtiofs only.
func KernelWithoutInitramfs(t testing.TB) string { return file(t, "MICA_KERNEL_NOINITRD") }

// Libkrun is libkrun.so.1.
func Libkrun(t testing.TB) string { return file(t, "MICA_LIBKRUN") }

// RustVirtiofsd is the virtiofsd written in Rust.
func RustVirtiofsd(t testing.TB) string { return file(t, "MICA_VIRTIOFSD") }

// CVirtiofsd is the virtiofsd of QEMU's own source.
func CVirtiofsd(t testing.TB) string { return exists(t, "/usr/lib/qemu/virtiofsd") }

// Image is a reference to an image: busybox or debian.
func Image(t testing.TB, name string) string {
	t.Helper()
	return "oci:" + Cache(t, "images", name) + ":latest"
}

// LayerTars are the layers of the Debian image as plain tar files, the lowest first.
func LayerTars(t testing.TB) []string {
	t.Helper()
	tars, err := filepath.Glob(filepath.Join(Cache(t, "debian-tars"), "[0-9].tar"))
	if err != nil || len(tars) != 3 {
		t.Fatalf("layers of the Debian image: have %q, want three: %s", tars, mend)
	}
	return tars
}

// Tool is the path of a program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: %s", err, mend)
	}
	return path
}

// Root fails the test of an ordinary user.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts and changes owners: run it as root")
	}
}

// Soak says whether the long checks are asked for.
func Soak() bool { return os.Getenv("MICA_SOAK") != "" }

// Run runs a command to its end, and fails the test when it fails. It gives its standard output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func file(t testing.TB, name string) string {
	t.Helper()
	return exists(t, variable(t, name))
}

func variable(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: %s", name, mend)
	}
	return value
}

func exists(t testing.TB, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: %s", err, mend)
	}
	return path
}

// Dir is a folder for mounts and big trees, on a filesystem with xattrs, which /tmp may not be. It is removed after the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mica-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
