package fusefs_test

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPassthrough shows that the kernel reads, writes and maps files of the upper without the server, and that nobody sees other contents for it.
func TestPassthrough(t *testing.T) {
	u := indexedUnion(t, file("low", "of the layer"), file("other", "other"))
	u.options.Passthrough = true
	u.debugged()
	buf := make([]byte, 100)
	var opened []*os.File
	contents := func(f *os.File) string {
		t.Helper()
		n, err := f.ReadAt(buf, 0)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	noData := func(what string, work func()) {
		t.Helper()
		if got := u.count(work); got["READ"]+got["WRITE"] > 0 {
			t.Errorf("%s: asked the server %v, want no READ and no WRITE", what, got)
		}
	}
	open := func(name string, flags int) *os.File {
		t.Helper()
		fd, err := unix.Open(u.path(name), flags|unix.O_CLOEXEC, 0o644)
		must(t, err)
		opened = append(opened, os.NewFile(uintptr(fd), name))
		return opened[len(opened)-1]
	}
	write := func(f *os.File, words string) {
		t.Helper()
		_, err := unix.Pwrite(int(f.Fd()), []byte(words), 0)
		must(t, err)
	}

	closeAll := func() {
		for _, f := range opened {
			must(t, f.Close())
		}
		opened = nil
	}
	defer closeAll()

	created := open("new", unix.O_RDWR|unix.O_CREAT)
	noData("a new file", func() {
		write(created, "new")
		if got := contents(created); got != "new" {
			t.Errorf("new file has %q", got)
		}
	})
	mapped, err := unix.Mmap(int(created.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(mapped, "NEW")
	if got := contents(open("new", unix.O_RDONLY)); got != "NEW" {
		t.Errorf("read after a write by mapping: %q", got)
	}
	must(t, unix.Munmap(mapped))

	// A reader that was there before the copy-up sees it, and keeps the file from being passed through.
	reader := open("low", unix.O_RDONLY)
	if got := contents(reader); got != "of the layer" {
		t.Errorf("low: %q", got)
	}
	writer := open("low", unix.O_RDWR)
	write(writer, "by a writer!")
	for who, f := range map[string]*os.File{"reader": reader, "writer": writer} {
		if got := contents(f); got != "by a writer!" {
			t.Errorf("%s: %q after the copy-up", who, got)
		}
	}
	closeAll()
	noData("what was copied up, once all have closed it", func() {
		f := open("low", unix.O_RDWR)
		write(f, "past a cache")
		must(t, f.Truncate(4))
		if got := contents(f); got != "past" {
			t.Errorf("low: %q after a cut", got)
		}
	})
	if st, err := os.Stat(u.path("low")); err != nil || st.Size() != 4 {
		t.Errorf("stat of low: %v (%v)", st, err)
	}

	// A file that is open for writing is the same one under another name, and without any.
	f := open("other", unix.O_RDWR)
	must(t, os.Rename(u.path("other"), u.path("moved")))
	write(f, "OTHER")
	must(t, f.Sync())
	u.wantContents("moved", "OTHER")
	must(t, os.Remove(u.path("moved")))
	write(f, "gone!")
	if got := contents(f); got != "gone!" {
		t.Errorf("removed file has %q", got)
	}
	closeAll()
	u.remount()
	u.wantContents("new", "NEW")
	u.wantContents("low", "past")
}
