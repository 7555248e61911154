package amdvhost

import (
	"context"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/micavm/mica/launcher/vmm"
)

const (
	// attempts is how many emulated hosts a test gets. Emulated virtualization is no hypervisor's best-tested ground: once in
	// some hundred boots a guest in it, or the host, stops for good, with nothing to be seen from outside.
	attempts = 3
	// hostTime is for a host to boot, and to say that its test has taken too long.
	hostTime = time.Minute
)

// Inside says whether KVM works where the calling test runs. Where it does not, the same test has been run again in an emulated host, with
// its output and its failure in t, and there is nothing left to do:
//
//	if !amdvhost.Inside(t, 5*time.Minute) {
//		return
//	}
//
// A test that has not ended within limit, some times what it takes, is given another host, and said so.
func Inside(t *testing.T, limit time.Duration) bool {
	t.Helper()
	if vmm.CheckKVM() == nil {
		return true
	}
	command := again(t, limit)
	for attempt := 1; ; attempt++ {
		status, stopped, err := attemptWithin(t.Context(), command, limit)
		switch {
		case (stopped || err != nil) && attempt < attempts:
			t.Logf("emulated host %d of %d stopped, or a guest in it: trying another one (status %d, error %v)", attempt, attempts, status, err)
			continue
		case err != nil:
			t.Fatal(err)
		case status != 0:
			t.Errorf("the test in the emulated host ended with status %d", status)
		}
		return false
	}
}

// again is the command that runs only the test t, with a deadline.
func again(t *testing.T, limit time.Duration) Command {
	t.Helper()
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
	args := []string{self, "-test.v", "-test.timeout=" + limit.String(), "-test.run=" + strings.Join(pattern, "/")}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") { // the package's own
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	return Command{
		Args:   args,
		Dir:    dir,
		Stdout: t.Output(),
		Stderr: t.Output(),
	}
}

// attemptWithin runs command in a host of its own; stopped says that it took what it was given, or more.
func attemptWithin(ctx context.Context, command Command, limit time.Duration) (status int, stopped bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit+hostTime)
	defer cancel()
	start := time.Now()
	statuses, err := Run(ctx, command)
	if err != nil {
		return 0, false, err
	}
	// A test stops what it runs some time before its deadline, so as to say where it was.
	return statuses[0], statuses[0] != 0 && time.Since(start) > limit*3/4, nil
}
