package launcher

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// systemRules are what any dynamic program needs.
var systemRules = landlock.Rules{Read: []string{"/"}, Write: []string{"/dev/null"}}

func startShell(t *testing.T, n *nursery, script string, mounts []fuseMount) (*stage, *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	s, err := n.startStage(vmm.Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Stdin: []byte("input")}, mounts, systemRules, write)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	return s, read
}

func TestStageMountsWhereOnlyTheChildSees(t *testing.T) {
	n := newNursery()
	defer n.close()
	dir := filepath.Join(t.TempDir(), "private")
	s, out := startShell(t, n, "ls -a "+dir+"; cat", []fuseMount{{Dir: dir, Source: "test", AllowOther: true}})
	dev, err := s.device()
	if err != nil {
		t.Fatal(err)
	}
	served := serveLister(t, dev)
	if err := s.proceed(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(said), ".\n..\nserved\ninput"; got != want {
		t.Errorf("the child sees %q, want %q", got, want)
	}
	<-s.Process.ended()
	<-served // the mount has gone with the child
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder outside: %v, %v", names, err)
	}
}

func TestStageWithoutAProgram(t *testing.T) {
	n := newNursery()
	defer n.close()
	s, err := n.startStage(vmm.Command{Path: "/nowhere/vmm", Args: []string{"vmm"}}, nil, systemRules, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.proceed(); err == nil || err.Error() != "execute /nowhere/vmm: no such file or directory" {
		t.Errorf("error: %v", err)
	}
	<-s.Process.ended()
}

func TestStageThatCannotMount(t *testing.T) {
	n := newNursery()
	defer n.close()
	s, _ := startShell(t, n, "echo never", []fuseMount{{Dir: "/proc/nowhere", Source: "test"}})
	if _, err := s.device(); err == nil || !strings.Contains(err.Error(), "/proc/nowhere") {
		t.Errorf("error: %v", err)
	}
	s.abandon()
}

func TestChildrenEndWithTheNursery(t *testing.T) {
	n := newNursery()
	s, _ := startShell(t, n, "exec sleep 600", nil)
	if err := s.proceed(); err != nil {
		t.Fatal(err)
	}
	n.close()
	<-s.Process.ended()
}

func TestStopEscalates(t *testing.T) {
	n := newNursery()
	defer n.close()
	s, out := startShell(t, n, "trap '' TERM; echo ready; while :; do sleep 600; done", nil)
	if err := s.proceed(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	s.stop(t.Context(), 0, 10_000_000)
	if s.Process.err == nil {
		t.Error("a child that was killed ended without an error")
	}
}

// fdPath is the form in which go-fuse takes a descriptor that is mounted already. It owns that one: dev is closed.
func fdPath(t *testing.T, dev *os.File) string {
	t.Helper()
	fd, err := unix.Dup(int(dev.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	dev.Close()
	return fmt.Sprintf("/dev/fd/%d", fd)
}

// lister serves a root that has one entry.
type lister struct{ fuse.RawFileSystem }

func (lister) GetAttr(_ <-chan struct{}, _ *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Mode = unix.S_IFDIR | 0o755
	return fuse.OK
}

func (lister) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	for i, name := range []string{".", "..", "served"} {
		if uint64(i) >= in.Offset && !out.AddDirEntry(fuse.DirEntry{Name: name, Ino: uint64(i + 1), Mode: unix.S_IFREG, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}
