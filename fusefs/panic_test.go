package fusefs

import (
	"bytes"
	"log"
	"os"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestAPanicEndsOneRequest(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	fs, err := New(Config{Layers: []Layer{{Dir: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	c := fs.Connect(ConnectOptions{})
	if st := c.with(rootID, func(*inode) error { panic("of the test") }); st != fuse.EIO {
		t.Errorf("status %v, want EIO", st)
	}
	if n := strings.Count(logged.String(), "of the test"); n != 1 {
		t.Errorf("it was logged %d times: %s", n, logged.String())
	}
	if st := c.with(rootID, func(*inode) error { return nil }); !st.Ok() {
		t.Errorf("status of the next request: %v", st)
	}
}
