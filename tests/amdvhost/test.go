package amdvhost

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/micavm/mica/launcher/vmm"
)

// Inside says whether KVM works where the calling test runs. Where it does not, the same test has been run again in an emulated host, with
// its output and its failure in t, and there is nothing left to do:
//
//	if !amdvhost.Inside(t) {
//		return
//	}
func Inside(t *testing.T) bool {
	t.Helper()
	if vmm.CheckKVM() == nil {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var pattern []string
	for name := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	statuses, err := Run(t.Context(), Command{
		Args:   []string{self, "-test.v", "-test.run=" + strings.Join(pattern, "/")},
		Dir:    dir,
		Stdout: t.Output(),
		Stderr: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if statuses[0] != 0 {
		t.Errorf("the test in the emulated host ended with status %d", statuses[0])
	}
	return false
}
