package launcher

import "errors"

// What a run can lack or trip over. Each error that wraps one of these is a line that names what would do.
var (
	ErrRunning   = errors.New("sandbox is running")
	ErrNotFound  = errors.New("no such running sandbox")
	ErrNoFUSE    = errors.New("no FUSE")
	ErrNoVMM     = errors.New("no virtual machine monitor")
	ErrNoMemory  = errors.New("not enough memory")
	ErrTransport = errors.New("transport does not fit")
	ErrImage     = errors.New("image has changed")
	ErrGuest     = errors.New("the guest ended unexpectedly")
)

// hinted is a user's line about a sentinel, in place of the sentinel's own words.
type hinted struct {
	kind error
	text string
}

func (e *hinted) Error() string { return e.text }
func (e *hinted) Unwrap() error { return e.kind }
