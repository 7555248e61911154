package fusefs

import (
	"errors"
	"io/fs"
	"log"
	"runtime/debug"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// status is the errno of err. What has none is an I/O error, and said once for each request.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fuse.Status(errno)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fuse.ENOENT
	}
	log.Printf("mica: filesystem: %v", err)
	return fuse.EIO
}

// panicked answers a request that a bug of mica's has ended.
func panicked(v any) fuse.Status {
	log.Printf("mica: filesystem: a request failed: %v\n%s", v, debug.Stack())
	return fuse.EIO
}
