package durability

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// openUnion opens the union of lower and the upper in dir.
func openUnion(t *testing.T, lower, dir string) (*fusefs.FS, client) {
	t.Helper()
	fs, err := fusefs.New(config(lower, dir))
	must(t, err)
	return fs, client{fs.Connect(fusefs.ConnectOptions{Guest: true})}
}

func (c client) fsync(name string) error {
	return c.open(name, unix.O_RDONLY, func(h fuse.InHeader, fh uint64) fuse.Status {
		return c.c.Fsync(nil, &fuse.FsyncIn{InHeader: h, Fh: fh})
	})
}
