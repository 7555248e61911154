package fusefs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// TestMountByOrdinaryUser runs itself again as nobody, who may use /dev/fuse and mounts by fusermount3.
func TestMountByOrdinaryUser(t *testing.T) {
	if dir := os.Getenv("MICA_TEST_FUSERMOUNT"); dir != "" {
		mountedByOrdinaryUser(t, dir)
		return
	}
	dir := folderOfNobody(t, "mnt", "upper", "work")
	device := filepath.Join(dir, "fuse")
	must(t, unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 229))))
	must(t, unix.Chmod(device, 0o666))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `cd "$1" && mount --bind fuse /dev/fuse &&
		MICA_TEST_FUSERMOUNT=$1 exec setpriv --reuid 65534 --regid 65534 --clear-groups ./test -test.run='^TestMountByOrdinaryUser$' -test.v`, "sh", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func mountedByOrdinaryUser(t *testing.T, dir string) {
	u := &union{t: t, dir: dir + "/mnt", options: fusefs.MountOptions{Source: "a, b"}}
	u.config.Upper = &fusefs.Upper{Dir: dir + "/upper", Work: dir + "/work"}
	u.remount()
	u.write("new", "contents")
	u.remount()
	open, err := os.Open(u.path("new"))
	must(t, err)
	if err := u.mount.Unmount(); err == nil {
		t.Error("unmounted while a file is open")
	}
	must(t, open.Close())
	u.wantContents("new", "contents")
	u.unmount()
}
