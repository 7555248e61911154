package fusefs_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// BenchmarkRemembered says how many bytes the server remembers of a file or folder that the client has not forgotten.
func BenchmarkRemembered(b *testing.B) {
	for name, one := range map[string]func(c *fusefs.Connection, name string) fuse.Status{
		"file": func(c *fusefs.Connection, name string) fuse.Status {
			return c.Mknod(nil, &fuse.MknodIn{InHeader: header(1), Mode: unix.S_IFREG | 0o644}, name, &fuse.EntryOut{})
		},
		"folder": func(c *fusefs.Connection, name string) fuse.Status {
			return c.Mkdir(nil, &fuse.MkdirIn{InHeader: header(1), Mode: 0o755}, name, &fuse.EntryOut{})
		},
		"file of a layer":          lookUp,
		"file of an indexed layer": lookUp,
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			upper, work, lower := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "lower")
			for _, dir := range []string{upper, work, lower} {
				if err := unix.Mkdir(dir, 0o755); err != nil {
					b.Fatal(err)
				}
			}
			layer := fusefs.Layer{Dir: lower}
			if name == "file of an indexed layer" {
				layer = indexed(b, numbered(b.N, "file-%d", ""))
			}
			if name == "file of a layer" {
				for i := range b.N {
					if err := unix.Mknod(fmt.Sprintf("%s/file-%d", lower, i), unix.S_IFREG|0o644, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			fsys, err := fusefs.New(fusefs.Config{Layers: []fusefs.Layer{layer}, Upper: &fusefs.Upper{Dir: upper, Work: work}})
			if err != nil {
				b.Fatal(err)
			}
			c := fsys.Connect(fusefs.ConnectOptions{Guest: true})
			before := heap()
			for i := range b.N {
				if st := one(c, fmt.Sprintf("file-%d", i)); !st.Ok() {
					b.Fatal(st)
				}
			}
			b.ReportMetric(float64(heap()-before)/float64(b.N), "B/one")
			if err := fsys.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func lookUp(c *fusefs.Connection, name string) fuse.Status {
	h := header(1)
	return c.Lookup(nil, &h, name, &fuse.EntryOut{})
}
