package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/micavm/mica/tests/testenv"
	"github.com/micavm/mica/tests/userns"
)

// limit is for one of the scripts, which take seconds.
const limit = 2 * time.Minute

// TestBuild wants the very same image, layer by layer. Container storage packs what a mount_program shows by comparing two mounts, so kernel
// overlayfs is given metacopy=on, for which it does the same: otherwise it packs the upper, and has an opaque folder where the other has
// whiteouts.
func TestBuild(t *testing.T) {
	want := build(t, newStorage(t, `mountopt = "metacopy=on"`), asRoot)
	mica := newStorage(t, mountProgram(t))
	t.Run("root", func(t *testing.T) { compare(t, want, build(t, mica, asRoot)) })
	t.Run("podman", func(t *testing.T) { runImage(t, mica) })
	t.Run("user", func(t *testing.T) { compare(t, want, build(t, newStorage(t, mountProgram(t)), userns.Command)) })
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	if len(want) != 4 {
		t.Errorf("layers of kernel overlayfs: %q, want four", want)
	}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Errorf("layer %d differs:\nwant %q\n got %q", i, want, got)
			return
		}
	}
}

// runImage runs a container over the layers that were built.
func runImage(t *testing.T, storage string) {
	testenv.Tool(t, "podman")
	testenv.Tool(t, "crun")
	out, err := script(t, storage, "run.sh", asRoot)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Fatalf("podman run: %v, want exit status 7\n%s", err, out)
	}
	if want := regexp.MustCompile(`^mica:overlay:\d+ / fuse\.mica .*\nfifo\nmoved\nmoved\nnew\n0:0 700\n$`); !want.MatchString(out) {
		t.Errorf("the container said:\n%s\nwant %s", out, want)
	}
}

// A starter gives args to be run in dir as some user.
type starter func(t testing.TB, dir string, args ...string) *exec.Cmd

func asRoot(t testing.TB, dir string, args ...string) *exec.Cmd {
	testenv.Root(t)
	cmd := exec.Command("unshare", append([]string{"--mount", "--"}, args...)...)
	cmd.Dir = dir
	return cmd
}

// mountProgram is the line of storage.conf that names mica, under a name that everybody can reach.
func mountProgram(t *testing.T) string {
	t.Helper()
	dir := testenv.Dir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "fuse-overlayfs")
	testenv.Run(t, "cp", testenv.Mica(t), filepath.Join(dir, "mica"))
	if err := os.Symlink("mica", program); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("mount_program = %q", program)
}

// newStorage is a folder with an empty container storage; option is for its overlay driver.
func newStorage(t *testing.T, option string) string {
	t.Helper()
	dir := testenv.Dir(t)
	conf := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n[storage.options.overlay]\n%s\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "run"), option)
	if err := os.WriteFile(filepath.Join(dir, "storage.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", busyboxLayer(t), filepath.Join(dir, "layer.tar.gz"))
	for _, name := range []string{"build.sh", "run.sh"} {
		testenv.Run(t, "cp", filepath.Join("testdata", name), dir)
	}
	return dir
}

// build gives the diff IDs of the image's layers, the lowest first.
func build(t *testing.T, storage string, as starter) []string {
	t.Helper()
	testenv.Tool(t, "buildah")
	if out, err := script(t, storage, "build.sh", as); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	layout := filepath.Join(storage, "image")
	manifest := readManifest(t, layout)
	readJSON(t, blob(layout, manifest.Config.Digest), &config)
	return config.RootFS.DiffIDs
}

// script runs a script of testdata on storage, with no standard input, and gives what it says.
func script(t *testing.T, storage, name string, as starter) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := as(t, storage, "sh", name, storage)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	return out.String(), err
}

type manifest struct {
	Config struct{ Digest string }
	Layers []struct{ Digest string }
}

func busyboxLayer(t *testing.T) string {
	t.Helper()
	layout := testenv.Cache(t, "images", "busybox")
	return blob(layout, readManifest(t, layout).Layers[0].Digest)
}

func readManifest(t *testing.T, layout string) manifest {
	t.Helper()
	var index struct {
		Manifests []struct{ Digest string }
	}
	readJSON(t, filepath.Join(layout, "index.json"), &index)
	var m manifest
	readJSON(t, blob(layout, index.Manifests[0].Digest), &m)
	return m
}

func blob(layout, digest string) string {
	return filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
