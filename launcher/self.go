package launcher

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/micavm/mica/launcher/krun"
)

// The hidden commands: mica executes itself for what has to be a process of its own.
const (
	wordJanitor  = "__janitor"
	wordStage    = "__share"
	wordDetached = "__run"
	wordConfined = "__supervise"

	selfName = "mica"
	selfPath = "/proc/self/exe" // this very program, even when its file was replaced
)

// ownPath is selfPath as the kernel had better name the process: by the program's file, where that is still the same one.
func ownPath() string {
	path, err := os.Executable()
	if err != nil {
		return selfPath
	}
	there, err := os.Stat(path)
	if err != nil {
		return selfPath
	}
	if own, err := os.Stat(selfPath); err != nil || !os.SameFile(own, there) {
		return selfPath
	}
	return path
}

// MainVMM is the body of the hidden command __krun: it reads a krun.Config from standard input and enters libkrun, which ends the process.
func MainVMM() {
	var c krun.Config
	err := json.NewDecoder(os.Stdin).Decode(&c)
	if err == nil {
		err = krun.Enter(c)
	}
	fmt.Fprintf(os.Stderr, "mica: enter libkrun: %v\n", err)
	os.Exit(int(StatusFailed))
}
