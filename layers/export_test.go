package layers

import (
	"bytes"
	"context"
	"io"
)

// UnpackForTest unpacks one layer of these bytes.
func UnpackForTest(ctx context.Context, s *Store, data []byte) (Layer, error) {
	return s.layer(ctx, Blob{DiffID: digestOf(data), Open: func(context.Context, Progress) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}, serial(nil))
}
