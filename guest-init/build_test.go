package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// budget is what guest-init may import itself: net, net/http or crypto would make it half as large again.
var budget = []string{
	"bufio", "bytes", "encoding/binary", "encoding/json", "errors", "fmt", "io", "os", "os/signal", "path/filepath", "runtime",
	"slices", "strconv", "strings", "sync", "syscall", "time", "unicode", "unicode/utf8", "unsafe",
	"golang.org/x/sys/unix", "github.com/micavm/mica/guest-init/wire",
}

// heavy are packages that must not come in by way of another.
var heavy = []string{"net", "net/http", "os/exec", "crypto", "crypto/tls", "text/template", "debug/elf", "runtime/cgo", "log/slog"}

func golist(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Fields(string(out))
}

func TestImports(t *testing.T) {
	for _, path := range golist(t, "-f", `{{join .Imports "\n"}}`, ".", "./wire") {
		if !slices.Contains(budget, path) {
			t.Errorf("guest-init imports %s, which is not in its budget", path)
		}
	}
	for _, path := range golist(t, "-deps", ".") {
		if slices.Contains(heavy, path) {
			t.Errorf("guest-init depends on %s", path)
		}
	}
}

func TestSize(t *testing.T) {
	const limit = 3 << 20
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "guest-init")
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, ".")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, text)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() >= limit {
				t.Errorf("guest-init takes %d bytes, the limit is %d", info.Size(), limit)
			}
			if loader := interpreter(out); loader != "" {
				t.Errorf("guest-init is not static: it wants %s", loader)
			}
		})
	}
}
