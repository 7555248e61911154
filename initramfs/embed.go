package initramfs

import (
	"errors"
	"io/fs"
	"runtime"
)

//go:generate ./build.sh

// ErrNotEmbedded is what a program built without guest-init has in its place.
var ErrNotEmbedded = errors.New("guest-init is not embedded: run make build")

// GuestInit returns guest-init for this program's architecture, a static ELF. The error is ErrNotEmbedded.
func GuestInit() ([]byte, error) {
	// Go embeds no folder that is empty: there is a .gitignore in it until build.sh has run.
	b, err := binaries.ReadFile("bin/" + runtime.GOARCH + "/guest-init")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEmbedded
	}
	return b, err
}
