package durability

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// roleVariable has the test binary be something else than tests: the process that is killed, or whose system calls fail.
const roleVariable = "MICA_DURABILITY_ROLE"

func init() {
	// Injected faults are counted by thread: what is traced runs on the first one.
	runtime.LockOSThread()
}

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case "server":
		err = serve(os.Args[1:])
	case "scenario":
		err = runScenario(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
