package layers

import (
	"errors"
	"fmt"
	"io"
)

// What an error of Pull can be: use errors.Is.
var (
	ErrCorrupt  = errors.New("corrupt")   // what the source gave is not what its digests say, or no image at all
	ErrNotFound = errors.New("not found") // the source has no such image
)

// corrupt is why as an error that wraps ErrCorrupt.
func corrupt(why error) error {
	switch {
	case errors.Is(why, ErrCorrupt):
		return why
	case errors.Is(why, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends too early", ErrCorrupt)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, why)
}

// A refError is an error whose text stands alone and that is of a kind.
type refError struct {
	text string
	kind error
}

func (e *refError) Error() string { return e.text }
func (e *refError) Unwrap() error { return e.kind }

func notFound(format string, args ...any) error {
	return &refError{fmt.Sprintf(format, args...), ErrNotFound}
}
