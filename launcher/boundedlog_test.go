package launcher

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestBoundedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "console.log")
	l, err := createLog(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for i := range 300 {
		p := bytes.Repeat([]byte{byte('a' + i%26)}, i%17+1)
		all = append(all, p...)
		if n, err := l.Write(p); n != len(p) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := append(older, newer...)
	if len(kept) > 1000 || len(kept) < 500 || !bytes.HasSuffix(all, kept) {
		t.Errorf("%d bytes are kept, or not the last ones", len(kept))
	}
}

func TestLastLines(t *testing.T) {
	l, err := createLog(filepath.Join(t.TempDir(), "console.log"), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Write([]byte("first\r\nsecond\x1b[31m\n\n \nkernel panic")); err != nil {
		t.Fatal(err)
	}
	if got, want := l.last(2), []string{"second[31m", "kernel panic"}; !slices.Equal(got, want) {
		t.Errorf("last lines: %q, want %q", got, want)
	}
}
