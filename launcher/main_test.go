package launcher

import (
	"os"
	"testing"
	"time"
)

// testCommands are what the test binary does when it is executed again: the hidden commands of mica, and actors of single tests.
var testCommands = map[string]func(){
	wordJanitor:         MainJanitor,
	wordStage:           MainPrivateMount,
	"doomed-supervisor": doomedSupervisor,
	wordFakeGuest:       fakeGuest,
	wordDetached:        func() { mainDetached(fakeProcess) },
	wordKilledRun:       killedRun,
	wordConfinedRun:     confinedRun,
	wordConfined:        confinedSupervise,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if command := testCommands[os.Args[1]]; command != nil {
			command()
			return
		}
	}
	// The race detector would have each of the many processes wait for a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// eventually waits until what is so; a test that waits in vain fails.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 seconds", what)
		}
	}
}
