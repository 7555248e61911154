package layers_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/micavm/mica/layers"
)

func TestPullFromEachSource(t *testing.T) {
	img := withConfig(t, imageOf(t, tarOf(t, file("bottom", "1")), tarOf(t, file(".wh.bottom", "")), tarOf(t, file("top", "3"))), v1.Config{
		Env: []string{"A=1"}, WorkingDir: "/w", User: "1:2", StopSignal: "SIGINT", Entrypoint: []string{"e"}, Cmd: []string{"c", "d"},
		Volumes: map[string]struct{}{"/v2": {}, "/v1": {}}, ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Labels: map[string]string{"l": "x"},
	})
	want := layers.Config{
		Env: []string{"A=1"}, Dir: "/w", User: "1:2", StopSignal: "SIGINT", Entrypoint: []string{"e"}, Cmd: []string{"c", "d"},
		Volumes: []string{"/v1", "/v2"}, Ports: []string{"53/udp", "80/tcp"}, Labels: map[string]string{"l": "x"},
	}
	manifest, err := img.Digest()
	must(t, err)
	config, err := img.ConfigName()
	must(t, err)
	dir := layoutOf(t, map[string]v1.Image{"v1": img, "other": imageOf(t)})
	host := serve(t)
	push(t, host+"/team/image:v1", img)
	for ref, digest := range map[string]string{
		"oci:" + dir + ":v1": manifest.String(),
		"oci:" + layoutOf(t, map[string]v1.Image{"only": img}): manifest.String(),
		"docker-archive:" + archiveOf(t, img):                  config.String(),
		host + "/team/image:v1":                                manifest.String(),
		host + "/team/image@" + manifest.String():              manifest.String(),
	} {
		got, err := openStore(t).Pull(t.Context(), ref, nil)
		must(t, err)
		if got.Reference != ref || got.Digest != digest || !reflect.DeepEqual(got.Config, want) {
			t.Errorf("%s: got %+v, want digest %s and %+v", ref, got, digest, want)
		}
		var lines []string
		for _, l := range got.Layers {
			lines = append(lines, listing(t, l)...)
		}
		if want := []string{`bottom 100644 "1"`, "bottom whiteout", `top 100644 "3"`}; !reflect.DeepEqual(lines, want) {
			t.Errorf("%s: got %q, want %q", ref, lines, want)
		}
	}
}

func TestPullFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.Mkdir("root", 0o755))
	want, err := filepath.Abs("root")
	must(t, err)
	for _, ref := range []string{"./root", want} {
		got, err := openStore(t).Pull(t.Context(), ref, nil)
		must(t, err)
		if wantImage := (&layers.Image{Reference: ref, Layers: []layers.Layer{{Dir: want}}}); !reflect.DeepEqual(got, wantImage) {
			t.Errorf("got %+v, want %+v", got, wantImage)
		}
	}
}

func TestPullErrors(t *testing.T) {
	dir := layoutOf(t, map[string]v1.Image{"b": imageOf(t), "a": imageOf(t)})
	host := serve(t)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, []byte("no archive"), 0o600))
	archive, err := os.ReadFile(archiveOf(t, imageOf(t, tarOf(t, file("f", "x")))))
	must(t, err)
	cut := filepath.Join(t.TempDir(), "cut.tar")
	must(t, os.WriteFile(cut, archive[:len(archive)/3], 0o600))
	foreign, err := mutate.ConfigFile(imageOf(t), &v1.ConfigFile{OS: "linux", Architecture: "s390x"})
	must(t, err)
	for ref, want := range map[string]string{
		"oci:/none:tag":           "no such folder",
		"oci:" + t.TempDir():      "not an OCI image layout: it has no index.json",
		"oci:" + dir + ":c":       `no tag "c" there: it has a, b`,
		"oci:" + dir:              "which of its images? add a tag: it has a, b",
		"docker-archive:/none":    "no such file",
		"docker-archive:" + plain: "corrupt: it ends too early",
		"docker-archive:" + cut:   "corrupt: it ends too early",
		"./none":                  "no such folder",
		plain:                     "not a folder",
		host + "/none:v1":         "the registry has no such image",
		"oci:" + layoutOf(t, map[string]v1.Image{"x": foreign}): "it is for linux/s390x, and this machine is " + machine(),
		"Upper Case": "neither a registry's reference nor oci:DIR, docker-archive:FILE or a folder that begins with / or ./: could not parse reference: Upper Case",
	} {
		_, err := openStore(t).Pull(t.Context(), ref, nil)
		if want = "image " + ref + ": " + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestCorruptBlobs(t *testing.T) {
	img := imageOf(t, tarOf(t, file("f", strings.Repeat("contents", 1000))))
	digest := layerDigest(t, img, 0)
	for name, test := range map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"truncated": {func(b []byte) []byte { return b[:50] }, "corrupt: it has 50 bytes of "},
		"flipped":   {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "corrupt: its digest is sha256:"},
		"empty":     {func([]byte) []byte { return nil }, "corrupt: it has 0 bytes of "},
		"longer":    {func(b []byte) []byte { return append(b, 0) }, "corrupt: it has "},
	} {
		t.Run(name, func(t *testing.T) {
			dir, store := layoutOf(t, map[string]v1.Image{"v1": img}), t.TempDir()
			blob := filepath.Join(dir, "blobs", "sha256", digest.Hex)
			good, err := os.ReadFile(blob)
			must(t, err)
			must(t, os.WriteFile(blob, test.damage(bytes.Clone(good)), 0o600))
			ref := "oci:" + dir + ":v1"
			_, err = openStoreIn(t, store).Pull(t.Context(), ref, nil)
			if want := "image " + ref + ": layer " + digest.String() + ": " + test.want; err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, layers.ErrCorrupt) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			checkNoLeftovers(t, store)
			must(t, os.WriteFile(blob, good, 0o600))
			_, err = openStoreIn(t, store).Pull(t.Context(), ref, nil)
			must(t, err)
		})
	}

	dir := layoutOf(t, map[string]v1.Image{"v1": img})
	must(t, os.Remove(filepath.Join(dir, "blobs", "sha256", digest.Hex)))
	_, err := openStore(t).Pull(t.Context(), "oci:"+dir, nil)
	if want := "image oci:" + dir + ": layer " + digest.String() + ": corrupt: its blob is missing"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A layer whose blob is right and whose tar is not the one that the configuration names.
func TestWrongDiffID(t *testing.T) {
	img := imageOf(t, tarOf(t, file("f", "x")))
	config, err := img.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	was := config.RootFS.DiffIDs[0]
	config.RootFS.DiffIDs[0] = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	digest := layerDigest(t, img, 0)
	img, err = mutate.ConfigFile(img, config)
	must(t, err)
	ref := "oci:" + layoutOf(t, map[string]v1.Image{"v1": img})
	_, err = openStore(t).Pull(t.Context(), ref, nil)
	want := "image " + ref + ": layer " + digest.String() + ": corrupt: the digest of its tar is " + was.String() + ", not " + config.RootFS.DiffIDs[0].String()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCompressions(t *testing.T) {
	data := tarOf(t, file("f", "x"))
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	for name, layer := range map[string]v1.Layer{
		"gzip": layerOf(t, data), "none": rawLayer(data), "zstd": zstdLayer{rawLayer(packed.Bytes()), rawLayer(data)},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := mutate.AppendLayers(imageOf(t), layer)
			must(t, err)
			got, err := openStore(t).Pull(t.Context(), "oci:"+layoutOf(t, map[string]v1.Image{"v1": img}), nil)
			must(t, err)
			if lines, want := listing(t, got.Layers[0]), []string{`f 100644 "x"`}; !reflect.DeepEqual(lines, want) {
				t.Errorf("got %q, want %q", lines, want)
			}
		})
	}
}

// A zstdLayer is compressed with what its library does not know.
type zstdLayer struct {
	v1.Layer
	plain v1.Layer
}

func (l zstdLayer) DiffID() (v1.Hash, error)            { return l.plain.DiffID() }
func (l zstdLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

func TestPlatforms(t *testing.T) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"s390x", machine()[len("linux/"):]} {
		img := imageOf(t, tarOf(t, file(arch, "")))
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	must(t, err)
	must(t, path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})))
	host := serve(t)
	pushIndex(t, host+"/image:v1", index)
	for _, ref := range []string{"oci:" + dir, "oci:" + dir + ":v1", host + "/image:v1"} {
		img, err := openStore(t).Pull(t.Context(), ref, nil)
		must(t, err)
		if got, want := listing(t, img.Layers[0]), []string{machine()[len("linux/"):] + ` 100644 ""`}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", ref, got, want)
		}
	}
}

func TestPullersShareALayer(t *testing.T) {
	data := tarOf(t, file("f", strings.Repeat("x", 1<<20)))
	img := imageOf(t, data, tarOf(t, file("g", "")), data) // one layer twice
	ref, store := "oci:"+layoutOf(t, map[string]v1.Image{"v1": img}), t.TempDir()
	var mu sync.Mutex
	unpacked := map[string]int{}
	var pulls sync.WaitGroup
	for range 6 {
		s := openStoreIn(t, store)
		pulls.Go(func() {
			_, err := s.Pull(t.Context(), ref, func(e layers.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Step == layers.StepDone {
					unpacked[e.Layer]++
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	if want := map[string]int{layerDigest(t, img, 0).String(): 1, layerDigest(t, img, 1).String(): 1}; !reflect.DeepEqual(unpacked, want) {
		t.Errorf("unpacked %v, want %v", unpacked, want)
	}
	checkNoLeftovers(t, store)
}

// What a process that died has left: half a layer beside its place, and one in its place that is not complete.
func TestLeftovers(t *testing.T) {
	img := imageOf(t, tarOf(t, file("f", "right")))
	diffID, err := img.ConfigFile()
	must(t, err)
	store := t.TempDir()
	base := filepath.Join(store, "data", "layers", diffID.RootFS.DiffIDs[0].Hex)
	other := filepath.Join(store, "data", "layers", strings.Repeat("1", 64)+".tmp")
	for _, dir := range []string{base + ".tmp", base, other} {
		must(t, os.MkdirAll(filepath.Join(dir, "fs"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "fs", "f"), []byte("wrong"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "fs", "g"), []byte("wrong"), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(base, "index"), []byte("half"), 0o600))
	got, err := openStoreIn(t, store).Pull(t.Context(), "oci:"+layoutOf(t, map[string]v1.Image{"v1": img}), nil)
	must(t, err)
	if lines, want := listing(t, got.Layers[0]), []string{`f 100644 "right"`}; !reflect.DeepEqual(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
	if _, err := os.Stat(filepath.Join(got.Layers[0].Dir, "g")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of the incomplete layer stayed: %v", err)
	}
	checkNoLeftovers(t, store)
}

func TestPullEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ref, store := "oci:"+layoutOf(t, map[string]v1.Image{"v1": imageOf(t, tarOf(t, file("f", "x")))}), t.TempDir()
	_, err := openStoreIn(t, store).Pull(ctx, ref, func(layers.Event) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkNoLeftovers(t, store)
}

func TestUncompressedArchive(t *testing.T) {
	img, err := mutate.AppendLayers(empty.Image, rawLayer(tarOf(t, file("f", "x"))))
	must(t, err)
	path := filepath.Join(t.TempDir(), "a.tar")
	must(t, tarball.WriteToFile(path, mustTag(t, "example:v1"), img))
	got, err := openStore(t).Pull(t.Context(), "docker-archive:"+path, nil)
	must(t, err)
	if lines, want := listing(t, got.Layers[0]), []string{`f 100644 "x"`}; !reflect.DeepEqual(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
}

// checkNoLeftovers says whether only complete layers and locks are in a store.
func checkNoLeftovers(t testing.TB, store string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(store, "data", "layers", "*.tmp"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func layerDigest(t testing.TB, img v1.Image, n int) v1.Hash {
	t.Helper()
	manifest, err := img.Manifest()
	must(t, err)
	return manifest.Layers[n].Digest
}
