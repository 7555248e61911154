package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/micavm/mica/tests/amdvhost"
	"github.com/micavm/mica/tests/testenv"
)

// TestPosix runs go-fuse's posixtest in guests, on the root and on a volume.
func TestPosix(t *testing.T) {
	program := buildPosix(t)
	for name, w := range map[string]way{
		"vhost-user":     {vmm: "qemu", transport: "vhost-user"},
		"virtiofsd-c":    {vmm: "qemu", transport: "virtiofsd", virtiofsd: testenv.CVirtiofsd(t)},
		"virtiofsd-rust": {vmm: "qemu", transport: "virtiofsd", virtiofsd: testenv.RustVirtiofsd(t)},
	} {
		t.Run(name, func(t *testing.T) { runPosix(t, newHome(t, w), program, "/root /volume", ".*") })
	}
}

// TestPosixKrun is TestPosix in a guest of libkrun. In an emulated host that takes many minutes: short of a soak it is some tests, on the root.
func TestPosixKrun(t *testing.T) {
	const program = "MICA_TEST_POSIX" // names the folder that buildPosix gave, where this test is run again
	if os.Getenv(program) == "" {
		t.Setenv(program, buildPosix(t))
	}
	limit, folders, only := 4*time.Minute, "/root", "AppendWrite|FileBasic|Link|MkdirRmdir|RenameOverwriteDestExist|SymlinkReadlink|TruncateFile|XAttr"
	if testenv.Soak() {
		limit, folders, only = 40*time.Minute, "/root /volume", ".*"
	}
	if amdvhost.Inside(t, limit) {
		runPosix(t, newHome(t, way{vmm: "krun", transport: "krun"}), os.Getenv(program), folders, only)
	}
}

// buildPosix gives a folder with the static test binary "posix".
func buildPosix(t *testing.T) string {
	t.Helper()
	dir := testenv.Dir(t)
	build := exec.Command("go", "test", "-c", "-tags", "guest", "-o", filepath.Join(dir, "posix"), "github.com/micavm/mica/tests/posix")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest's tests: %v\n%s", err, out)
	}
	return dir
}

// runPosix runs the tests in program whose names match a pattern in each of the guest's folders.
func runPosix(t *testing.T, h *home, program, folders, only string) {
	t.Helper()
	work := testenv.Dir(t)
	var mica, image string
	for _, v := range h.env {
		switch key, value, _ := strings.Cut(v, "="); key {
		case "MICA":
			mica = value
		case "BUSYBOX":
			image = value
		}
	}
	// OpenSymlinkRace takes for granted that /etc/passwd is not on the filesystem under test.
	script := `cp /etc/passwd /run/passwd && mount -o bind /run/passwd /etc/passwd
status=0
for dir in ` + folders + `; do
	echo "in $dir"
	MICA_POSIX_DIR=$dir /tests/posix -test.run "/^($1)$" || status=1
done
exit $status`
	run := exec.Command(mica, "run", "--vmm", h.way.vmm, "--transport", h.way.transport, "--image", image,
		"-v", program+":/tests:ro", "-v", work+":/volume", "--",
		"/bin/sh", "-c", script, "sh", only)
	run.Env = append(os.Environ(), h.env...)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
