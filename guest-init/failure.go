package main

import (
	"errors"
	"fmt"

	"github.com/micavm/mica/guest-init/wire"
)

// Exit statuses of commands that never ran, as a shell has them.
const (
	statusFailed        = 125 // mica could not make what the command needs
	statusNotExecutable = 126
	statusNotFound      = 127
)

// A failure is why the command never ran.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func failf(status int, format string, args ...any) error {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// exitOf is err as the host hears of it.
func exitOf(err error) wire.Exit {
	exit := wire.Exit{Code: statusFailed, Error: err.Error()}
	if f, ok := errors.AsType[*failure](err); ok {
		exit.Code = f.status
	}
	return exit
}
