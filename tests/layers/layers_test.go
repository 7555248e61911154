package layers

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/micavm/mica/tests/testenv"
	"github.com/micavm/mica/tests/tree"
)

// nobody is an ordinary user: it unpacks the image, so that nothing in what is compared can stem from root's powers.
const nobody = 65534

// TestDebian compares all that can be seen of a Debian root filesystem: names, types, modes, owners, sizes, devices, link targets,
// hard-link groups, xattrs and contents.
func TestDebian(t *testing.T) {
	testenv.Root(t)
	got := readTree(t, mountDebian(t, ordinaryStore(t)))
	t.Run("umoci", func(t *testing.T) {
		bundle := filepath.Join(testenv.Dir(t), "bundle")
		testenv.Run(t, testenv.Tool(t, "umoci"), "unpack", "--image", testenv.Cache(t, "images", "debian")+":latest", bundle)
		compare(t, readTree(t, filepath.Join(bundle, "rootfs")), got)
	})
	t.Run("overlayfs", func(t *testing.T) {
		compare(t, readTree(t, mountOverlay(t, testenv.LayerTars(t))), got)
	})
}

func compare(t *testing.T, want, got tree.Tree) {
	t.Helper()
	const most = 40
	if len(want) < 10_000 {
		t.Errorf("only %d files to compare with", len(want))
	}
	for i, line := range tree.Diff(want, got) {
		if i == most {
			t.Fatal("and more")
		}
		t.Error(line)
	}
}

// readTree leaves out what mica's synthetic layer has.
func readTree(t *testing.T, dir string) tree.Tree {
	t.Helper()
	synthetic := map[string]bool{".sandbox": true, "etc/resolv.conf": true, "etc/hosts": true, "etc/hostname": true}
	nodes, err := tree.Read(dir, func(path string) bool { return synthetic[path] })
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// A store is where one user's mica keeps its data.
type store struct {
	mica string
	env  []string
}

// ordinaryStore has the Debian image, unpacked by an ordinary user.
func ordinaryStore(t *testing.T) store {
	t.Helper()
	dir := testenv.Dir(t)
	s := store{mica: filepath.Join(dir, "mica")}
	testenv.Run(t, "cp", testenv.Mica(t), s.mica)
	for _, name := range []string{"data", "cache", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Run(t, "chown", "-R", "65534:65534", dir)
	s.env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir+"/data", "XDG_CACHE_HOME="+dir+"/cache", "XDG_RUNTIME_DIR="+dir+"/run")
	pull := s.command("run", "--image", testenv.Image(t, "debian"), "--dry-run", "--", "true")
	pull.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	// The caches of the tests can be in a folder that is root's alone: the image is read through a copy.
	copied := filepath.Join(dir, "image")
	testenv.Run(t, "cp", "-r", testenv.Cache(t, "images", "debian"), copied)
	testenv.Run(t, "chown", "-R", "65534:65534", copied)
	pull.Args[3] = "oci:" + copied + ":latest"
	run(t, pull)
	return s
}

func (s store) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.mica, args...)
	cmd.Env = s.env
	return cmd
}

func mountDebian(t *testing.T, s store) string {
	t.Helper()
	dir := testenv.Dir(t)
	run(t, s.command("mount", "-d", "--image", testenv.Image(t, "debian"), dir))
	t.Cleanup(func() { run(t, s.command("umount", dir)) })
	return dir
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
