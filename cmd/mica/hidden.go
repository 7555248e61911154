package main

import (
	"fmt"
	"os"

	"github.com/micavm/mica/launcher"
)

// hidden carries out a hidden command: mica executes itself for what has to be a process of its own. It is looked at before anything
// else, so that such a process starts no more than it needs.
func hidden(args []string) bool {
	if len(args) < 2 {
		return false
	}
	switch args[1] {
	case "__krun":
		launcher.MainVMM()
	case "__janitor":
		launcher.MainJanitor()
	case "__share":
		launcher.MainPrivateMount()
	case "__run":
		launcher.MainDetached()
	case "__supervise":
		os.Exit(supervise())
	default:
		return false
	}
	fmt.Fprintf(os.Stderr, "mica: %s returned\n", args[1])
	os.Exit(exitFailed)
	return true
}
