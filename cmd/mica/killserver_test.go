package main

import (
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// killServer is the script command "killserver DIR": it kills the process that serves mica's mount on DIR, as a crash would, and waits until
// its janitor has removed the mount.
func killServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: killserver dir")
	}
	line := regexp.MustCompile(`(?m)^.* ` + regexp.QuoteMeta(ts.MkAbs(args[0])) + ` .* - fuse\.mica mica:\S*:(\d+) .*$`)
	mounts := func() []string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		ts.Check(err)
		return line.FindStringSubmatch(string(text))
	}
	found := mounts()
	if found == nil {
		ts.Fatalf("nothing of mica's is mounted on %s", args[0])
	}
	pid, err := strconv.Atoi(found[1])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	for deadline := time.Now().Add(20 * time.Second); mounts() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("the mount on %s is still there", args[0])
		}
	}
}
