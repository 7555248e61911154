// Package userns runs shell scripts as root of a user namespace of an ordinary user, for tests that root starts: what rootless container
// programs do. Nothing of the host changes: what the user needs is laid over /etc and /dev in a mount namespace of the script's own.
package userns

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/micavm/mica/tests/testenv"
)

// UID is the ordinary user's, who is nobody. In the namespace, root is this user, and the owners from 1 on are 100000 and more.
const UID = 65534

// enter has subordinate ids in /etc for newuidmap, and /dev/fuse as udev makes it, for everybody.
const enter = `set -eu
mount --bind "$1/subid" /etc/subuid
mount --bind "$1/subid" /etc/subgid
mount --bind "$1/fuse" /dev/fuse
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups -- unshare --map-auto --map-root-user --mount -- "$@"
`

// Command is args, to be run in dir, which becomes the ordinary user's with all that is in it. HOME and XDG_RUNTIME_DIR are in dir.
func Command(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	testenv.Root(t)
	for _, tool := range []string{"setpriv", "newuidmap", "newgidmap", "unshare"} {
		testenv.Tool(t, tool)
	}
	etc := testenv.Dir(t)
	if err := os.Chmod(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "subid"), []byte("nobody:100000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "mknod", "-m", "666", filepath.Join(etc, "fuse"), "c", "10", "229")
	testenv.Run(t, "chown", "-hR", "65534:65534", dir)
	cmd := exec.Command("unshare", append([]string{"--mount", "--", "sh", "-c", enter, "sh", etc}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, ".cache"), "XDG_DATA_HOME="+filepath.Join(dir, ".data"))
	return cmd
}
