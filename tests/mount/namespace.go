package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaceVariable is set in the mount namespace that tests have to themselves.
const namespaceVariable = "MICA_TEST_NAMESPACE"

// enterNamespace runs the program again in a mount namespace of its own, and ends as it does. A namespace that another program makes in the
// meantime would else keep a copy of each mount, and overlayfs refuses an upper folder that such a copy has; and no mount outlives the tests.
func enterNamespace() {
	if os.Getenv(namespaceVariable) != "" || os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread() // the signal comes when this thread ends, not the process
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
