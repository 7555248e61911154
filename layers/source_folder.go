package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A folder is a root filesystem as it lies on the host. It is never written to.
type folder struct{ path string }

func (f folder) Contents(context.Context) (*Contents, error) {
	path, err := filepath.Abs(f.path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notFound("no such folder")
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("not a folder")
	}
	return &Contents{Dir: path}, nil
}
