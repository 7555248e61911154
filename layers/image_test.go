package layers_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/micavm/mica/layers"
	"github.com/micavm/mica/layers/index"
)

func openStore(t testing.TB) *layers.Store {
	t.Helper()
	return openStoreIn(t, t.TempDir())
}

func openStoreIn(t testing.TB, dir string) *layers.Store {
	t.Helper()
	s, err := layers.OpenStore(filepath.Join(dir, "data"), filepath.Join(dir, "cache"))
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An entry is one of a tar: a header with what follows it.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		must(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// layerOf is a layer, gzipped, of this tar.
func layerOf(t testing.TB, data []byte) v1.Layer {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	must(t, err)
	return layer
}

// imageOf is an image whose layers, bottom to top, have these tars.
func imageOf(t testing.TB, tars ...[]byte) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, data := range tars {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: layerOf(t, data), MediaType: types.OCILayer})
		must(t, err)
	}
	return img
}

// withConfig is img with a configuration.
func withConfig(t testing.TB, img v1.Image, c v1.Config) v1.Image {
	t.Helper()
	img, err := mutate.Config(img, c)
	must(t, err)
	return img
}

// layoutOf writes images as an OCI image layout, each under its tag.
func layoutOf(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	must(t, err)
	for tag, img := range images {
		must(t, path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})))
	}
	return dir
}

// archiveOf writes img as a docker archive.
func archiveOf(t testing.TB, img v1.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("example:latest")
	must(t, err)
	must(t, tarball.WriteToFile(path, tag, img))
	return path
}

// rawLayer is a layer of any bytes.
func rawLayer(data []byte) v1.Layer { return static.NewLayer(data, types.OCIUncompressedLayer) }

// listing shows one layer as lines: what the index says of each name, and a regular file's contents, as they are in the folder.
func listing(t testing.TB, l layers.Layer) []string {
	t.Helper()
	x, err := index.Open(l.Index)
	must(t, err)
	defer x.Close()
	if x.Layer() != l.DiffID {
		t.Errorf("index names %s, layer is %s", x.Layer(), l.DiffID)
	}
	var lines []string
	var list func(dir index.Ino, prefix string)
	list = func(dir index.Ino, prefix string) {
		for e, err := range x.Entries(dir) {
			must(t, err)
			if e.Whiteout {
				lines = append(lines, prefix+e.Name+" whiteout")
				continue
			}
			lines = append(lines, prefix+e.Name+describe(t, l, x, e.Ino))
			if e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				list(e.Ino, prefix+e.Name+"/")
			}
		}
	}
	list(index.Root, "")
	return lines
}

func describe(t testing.TB, l layers.Layer, x *index.Index, i index.Ino) string {
	t.Helper()
	a, err := x.Attr(i)
	must(t, err)
	line := fmt.Sprintf(" %o", a.Mode)
	switch a.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		target, err := x.Readlink(i)
		must(t, err)
		line += " -> " + target
	case syscall.S_IFREG:
		path, err := x.Path(i)
		must(t, err)
		data, err := os.ReadFile(filepath.Join(l.Dir, path))
		must(t, err)
		if uint64(len(data)) != a.Size {
			t.Errorf("%s has %d bytes, its index says %d", path, len(data), a.Size)
		}
		line += fmt.Sprintf(" %.20q", data)
	case syscall.S_IFCHR, syscall.S_IFBLK:
		line += fmt.Sprintf(" %d:%d", a.Major, a.Minor)
	}
	if a.Nlink > 1 && a.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		line += fmt.Sprintf(" %d links", a.Nlink)
	}
	if a.Opaque {
		line += " opaque"
	}
	return line
}

// checkFolder says what must not be in a layer's folder: anything but folders and plain files of this user, open to it.
func checkFolder(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode, stat := info.Mode(), info.Sys().(*syscall.Stat_t)
		if !mode.IsDir() && !mode.IsRegular() || mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 || mode.Perm()&0o600 != 0o600 || mode.Perm()&0o022 != 0 {
			t.Errorf("%s has the mode %v", path, mode)
		}
		if int(stat.Uid) != os.Geteuid() {
			t.Errorf("%s is owned by %d", path, stat.Uid)
		}
		return nil
	})
	must(t, err)
}

// pullTar unpacks one layer and gives it.
func pullTar(t testing.TB, data []byte) (layers.Layer, error) {
	t.Helper()
	ref := "oci:" + layoutOf(t, map[string]v1.Image{"latest": imageOf(t, data)})
	img, err := openStore(t).Pull(t.Context(), ref, nil)
	if err != nil {
		return layers.Layer{}, err
	}
	return img.Layers[0], nil
}
