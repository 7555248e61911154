package launcher

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// virtiofsds are both programs: Debian's C one and the Rust one of tests/setup.sh.
func virtiofsds(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"C": "/usr/lib/qemu/virtiofsd", "Rust": os.Getenv("MICA_VIRTIOFSD")}
}

func TestVirtiofsdServesAPrivateMount(t *testing.T) {
	for name, path := range virtiofsds(t) {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("%v: run tests/setup.sh", err)
			}
			t.Setenv("MICA_VIRTIOFSD", path)
			v, err := findVirtiofsd()
			if err != nil {
				t.Fatal(err)
			}
			if v.rust != (name == "Rust") {
				t.Errorf("%s counts as Rust: %v", path, v.rust)
			}
			startAndHangUp(t, v)
		})
	}
}

// startAndHangUp starts v over a mount, and connects to it and hangs up as a monitor does that ends: v ends then.
func startAndHangUp(t *testing.T, v virtiofsd) {
	t.Helper()
	n := newNursery()
	defer n.close()
	dir := t.TempDir()
	log, err := createLog(filepath.Join(dir, "log"), logLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	listener, path, err := listenFile(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	out, _, err := log.pump()
	if err != nil {
		t.Fatal(err)
	}
	share := shareFolder(dir, 0)
	st, err := n.startStage(v.command(share, listener), []fuseMount{{Dir: share, Source: "test", AllowOther: true}}, v.rules(share), out)
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := st.device()
	if err != nil {
		t.Fatal(err)
	}
	served := serveLister(t, dev)
	if err := st.proceed(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-st.Process.ended():
		t.Fatalf("ended before the connection: %v: %v", st.Process.err, log.last(3))
	case <-served:
		t.Fatalf("the mount is gone before the connection: %v", log.last(3))
	case <-time.After(300 * time.Millisecond): // nothing can be waited for that should not happen
	}
	conn.Close()
	if !st.Process.endsWithin(context.Background(), 10*time.Second) {
		t.Errorf("runs on after its connection: %v", log.last(3))
	}
	st.stop(t.Context(), 0, 0)
	<-served
}

// serveLister serves dev until its mount is gone.
func serveLister(t *testing.T, dev *os.File) <-chan struct{} {
	t.Helper()
	server, err := fuse.NewServer(lister{fuse.NewDefaultRawFileSystem()}, fdPath(t, dev), &fuse.MountOptions{DisableReadDirPlus: true})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { server.Serve(); close(served) }()
	return served
}

func TestVirtiofsdIsMissing(t *testing.T) {
	t.Setenv("MICA_VIRTIOFSD", "/nowhere/virtiofsd")
	_, err := findVirtiofsd()
	want := "transport virtiofsd: no such program in /nowhere/virtiofsd: install virtiofsd, or use --transport vhost-user"
	if errorText(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
	t.Setenv("MICA_VIRTIOFSD", "/bin/false")
	if _, err := findVirtiofsd(); err == nil {
		t.Error("/bin/false counts as virtiofsd")
	}
}
