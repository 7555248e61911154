package fusefs_test

import (
	"os"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// A stuckDisk is a filesystem of empty files: to look for one that is called "stuck" takes until it is let go.
type stuckDisk struct {
	fuse.RawFileSystem
	asked chan struct{} // closed once somebody looks
	free  chan struct{} // closed to let go
	once  sync.Once
}

func (s *stuckDisk) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name == "stuck" {
		s.once.Do(func() { close(s.asked) })
		<-s.free
	}
	if name != "stuck" && name != "quick" {
		return fuse.ENOENT
	}
	out.NodeId, out.Attr = 2, fuse.Attr{Ino: 2, Mode: unix.S_IFREG | 0o644, Nlink: 1}
	return fuse.OK
}

func (s *stuckDisk) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: in.NodeId, Mode: unix.S_IFREG | 0o644, Nlink: 1}
	if in.NodeId == 1 {
		out.Mode = unix.S_IFDIR | 0o755
	}
	return fuse.OK
}

// mountStuckDisk mounts it on dir.
func mountStuckDisk(t *testing.T, dir string) *stuckDisk {
	s := &stuckDisk{RawFileSystem: fuse.NewDefaultRawFileSystem(), asked: make(chan struct{}), free: make(chan struct{})}
	server, err := fuse.NewServer(s, dir, &fuse.MountOptions{DirectMountStrict: true})
	must(t, err)
	go server.Serve()
	must(t, server.WaitMount())
	t.Cleanup(func() { must(t, server.Unmount()) })
	return s
}

func TestSlowRequestHoldsUpNoOther(t *testing.T) {
	lower := t.TempDir()
	disk := mountStuckDisk(t, lower)
	u := prepareUnion(t)
	u.config.Layers = append(u.config.Layers, fusefs.Layer{Dir: lower})
	u.remount()
	var stuck sync.WaitGroup
	stuck.Go(func() {
		if _, err := os.Lstat(u.path("stuck")); err != nil {
			t.Errorf("lstat of the stuck file: %v", err)
		}
	})
	<-disk.asked
	for _, name := range []string{"quick", "absent"} {
		if _, err := os.Lstat(u.path(name)); err != nil && !os.IsNotExist(err) {
			t.Errorf("lstat of %s: %v", name, err)
		}
	}
	close(disk.free)
	stuck.Wait()
}
