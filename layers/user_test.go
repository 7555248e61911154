package layers_test

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/micavm/mica/layers"
)

const (
	pullVariable = "MICA_TEST_PULL" // the reference that a test process of its own pulls, and
	intoVariable = "MICA_TEST_INTO" // the folder of its store
	nobody       = 65534
)

func TestMain(m *testing.M) {
	if ref := os.Getenv(pullVariable); ref != "" {
		os.Exit(pullAndSay(ref, os.Getenv(intoVariable)))
	}
	os.Exit(m.Run())
}

func pullAndSay(ref, into string) int {
	s, err := layers.OpenStore(filepath.Join(into, "data"), filepath.Join(into, "cache"))
	if err == nil {
		_, err = s.Pull(context.Background(), ref, nil)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// An image with other people's files, devices and closed folders needs no root.
func TestOrdinaryUser(t *testing.T) {
	ref := "docker-archive:" + archiveOf(t, imageOf(t, tarOf(t,
		entry{tar.Header{Name: "shut", Typeflag: tar.TypeDir, Mode: 0, Uid: 7}, ""},
		entry{tar.Header{Name: "shut/suid", Typeflag: tar.TypeReg, Mode: 0o4111, Uid: 1000, Gid: 5, Size: 1}, "x"},
		hardlink("again", "shut/suid"),
		entry{tar.Header{Name: "sda", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8}, ""},
	)))
	folder := t.TempDir()
	must(t, os.Chmod(filepath.Dir(folder), 0o755)) // of all of this test's folders
	cmd := exec.Command(copyOfThisProgram(t))
	cmd.Env = append(os.Environ(), pullVariable+"="+ref, intoVariable+"="+folder)
	if os.Geteuid() == 0 {
		must(t, os.Chown(folder, nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	img, err := openStoreIn(t, folder).Pull(t.Context(), ref, nil)
	must(t, err)
	want := []string{`again 104111 "x" 2 links`, "sda 60660 8:0", "shut 40000", `shut/suid 104111 "x" 2 links`}
	if got := listing(t, img.Layers[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// copyOfThisProgram is where any user may execute it: go test keeps its own for itself.
func copyOfThisProgram(t *testing.T) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	must(t, err)
	defer from.Close()
	path := filepath.Join(t.TempDir(), "test")
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	return path
}
