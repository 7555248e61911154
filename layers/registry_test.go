package layers_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/micavm/mica/layers"
)

func machine() string { return "linux/" + runtime.GOARCH }

// serve runs a registry and gives its address.
func serve(t testing.TB) string {
	t.Helper()
	return serveThrough(t, func(next http.Handler) http.Handler { return next })
}

func serveThrough(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	s := httptest.NewServer(wrap(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	must(t, remote.Write(mustTag(t, ref), img))
}

func pushIndex(t testing.TB, ref string, index v1.ImageIndex) {
	t.Helper()
	must(t, remote.WriteIndex(mustTag(t, ref), index))
}

func mustTag(t testing.TB, ref string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(ref)
	must(t, err)
	return tag
}

func TestPulledOnceWorksOffline(t *testing.T) {
	var down atomic.Bool
	host := serveThrough(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				t.Errorf("asked for %s", r.URL)
			}
			next.ServeHTTP(w, r)
		})
	})
	ref, store := host+"/image:v1", t.TempDir()
	push(t, ref, imageOf(t, tarOf(t, file("f", "first"))))

	_, err := openStoreIn(t, store).PullPolicy(t.Context(), ref, layers.Never, nil)
	if want := "image " + ref + ": it has not been pulled, and the pull policy is never"; err == nil || err.Error() != want || !errors.Is(err, layers.ErrNotFound) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	first, err := openStoreIn(t, store).Pull(t.Context(), ref, nil)
	must(t, err)
	checkLayout(t, filepath.Join(store, "data", "images"), first.Digest)

	down.Store(true)
	for _, policy := range []layers.Policy{layers.IfMissing, layers.Never} {
		again, err := openStoreIn(t, store).PullPolicy(t.Context(), ref, policy, nil)
		must(t, err)
		if again.Digest != first.Digest || again.Layers[0] != first.Layers[0] {
			t.Errorf("got %+v, want %+v", again, first)
		}
	}
	must(t, os.RemoveAll(filepath.Dir(first.Layers[0].Dir))) // its blob is kept
	_, err = openStoreIn(t, store).Pull(t.Context(), ref, nil)
	must(t, err)

	down.Store(false)
	push(t, ref, imageOf(t, tarOf(t, file("f", "second"))))
	moved, err := openStoreIn(t, store).PullPolicy(t.Context(), ref, layers.Always, nil)
	must(t, err)
	if moved.Digest == first.Digest {
		t.Error("policy always did not see that the tag has moved")
	}
	checkLayout(t, filepath.Join(store, "data", "images"), moved.Digest)
}

// checkLayout says whether the store's images are a valid layout that names this manifest, once.
func checkLayout(t testing.TB, dir, digest string) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	manifest, err := index.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != digest {
		t.Fatalf("the layout has %+v, want %s", manifest.Manifests, digest)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	must(t, err)
	blobs, err := img.Layers()
	must(t, err)
	for _, blob := range blobs {
		want, err := blob.Digest()
		must(t, err)
		r, err := blob.Compressed()
		must(t, err)
		defer r.Close()
		if got, _, err := v1.SHA256(r); err != nil || got != want {
			t.Errorf("blob %s has the digest %s, %v", want, got, err)
		}
	}
}

// A blob that comes in pieces is put together, and what came before a pull ended is not asked for again.
func TestDownloadsAreResumed(t *testing.T) {
	var ranges []string
	var broken atomic.Bool
	broken.Store(true)
	host := serveThrough(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Range") != "" {
				ranges = append(ranges, r.Header.Get("Range"))
			}
			if broken.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				w = &breaking{ResponseWriter: w, left: 1000}
			}
			next.ServeHTTP(w, r)
		})
	})
	noise := make([]byte, 3000) // does not get smaller
	for i := range noise {
		noise[i] = byte(i * i * 31 >> 3)
	}
	img := imageOf(t, tarOf(t, file("f", string(noise))))
	ref, store := host+"/image:v1", t.TempDir()
	push(t, ref, img)
	_, err := openStoreIn(t, store).Pull(t.Context(), ref, nil)
	must(t, err)
	if len(ranges) == 0 || !strings.HasPrefix(ranges[0], "bytes=1000-") {
		t.Errorf("asked for the ranges %q", ranges)
	}
	broken.Store(false)

	// A process that died has left the beginning.
	digest := layerDigest(t, img, 0)
	blob, err := os.ReadFile(filepath.Join(store, "data", "images", "blobs", "sha256", digest.Hex))
	must(t, err)
	for name, partial := range map[string][]byte{
		"good": blob[:700], "too long": append(bytes.Clone(blob), "more"...), "whole": blob, "bad": make([]byte, 700),
	} {
		t.Run(name, func(t *testing.T) {
			store := t.TempDir()
			s := openStoreIn(t, store)
			path := filepath.Join(store, "cache", "downloads", digest.Hex+".partial")
			must(t, os.WriteFile(path, partial, 0o600))
			_, err := s.Pull(t.Context(), ref, nil)
			must(t, err)
		})
	}
}

// A breaking writer loses its connection after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		_, _ = b.ResponseWriter.Write(p[:b.left])
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

// A blob that was damaged on the disk is noticed when it is unpacked, and fetched again by the next pull.
func TestStoredBlobIsVerified(t *testing.T) {
	ref, store := serve(t)+"/image:v1", t.TempDir()
	img := imageOf(t, tarOf(t, file("f", "x")))
	push(t, ref, img)
	first, err := openStoreIn(t, store).Pull(t.Context(), ref, nil)
	must(t, err)
	digest := layerDigest(t, img, 0)
	path := filepath.Join(store, "data", "images", "blobs", "sha256", digest.Hex)
	blob, err := os.ReadFile(path)
	must(t, err)
	blob[len(blob)/2] ^= 1
	must(t, os.WriteFile(path, blob, 0o600))
	must(t, os.RemoveAll(filepath.Dir(first.Layers[0].Dir)))
	if _, err := openStoreIn(t, store).Pull(t.Context(), ref, nil); !errors.Is(err, layers.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	_, err = openStoreIn(t, store).Pull(t.Context(), ref, nil)
	must(t, err)
}
