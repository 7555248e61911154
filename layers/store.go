package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micavm/mica/layers/index"
)

// A Store holds images and unpacked layers:
//
//	images/              an OCI image layout: what came from registries
//	layers/HEX/fs        one layer's folders and files; HEX is of its diff ID
//	layers/HEX/index     its metadata: there when the layer is complete
//	layers/HEX.lock      held by who unpacks the layer
//	layers/HEX.tmp       a layer that is being unpacked, or was when its process died
//
// Any number of processes may use one at the same time.
type Store struct {
	dir   string
	cache string // holds downloads/HEX.partial, HEX being of the blob's digest
}

// A Policy says when a registry is asked about an image that it has given before.
type Policy int

// The policies. Images of other sources are read anew each time; their layers are unpacked once.
const (
	IfMissing Policy = iota // never, when it is complete here
	Always                  // each time
	Never                   // not at all: what is not here is an error
)

// OpenStore opens the store in dir, making it when there is none. Interrupted downloads are kept in cache.
func OpenStore(dir, cache string) (*Store, error) {
	s := &Store{dir: dir, cache: cache}
	for _, d := range []string{s.layersDir(), s.imagesDir(), s.downloadsDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) layersDir() string    { return filepath.Join(s.dir, "layers") }
func (s *Store) imagesDir() string    { return filepath.Join(s.dir, "images") }
func (s *Store) downloadsDir() string { return filepath.Join(s.cache, "downloads") }

// Pull makes the image that ref names ready: a registry's reference, "oci:DIR[:TAG]", "docker-archive:FILE", or a folder
// (absolute, or beginning with "./" or "../"). What is here already is reused, without a network. p may be nil.
func (s *Store) Pull(ctx context.Context, ref string, p Progress) (*Image, error) {
	return s.PullPolicy(ctx, ref, IfMissing, p)
}

// PullPolicy is Pull with a policy of the caller's.
func (s *Store) PullPolicy(ctx context.Context, ref string, policy Policy, p Progress) (*Image, error) {
	img, err := s.pull(ctx, ref, policy, serial(p))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	return img, nil
}

func (s *Store) pull(ctx context.Context, ref string, policy Policy, p Progress) (*Image, error) {
	source, err := s.source(ref, policy, p)
	if err != nil {
		return nil, err
	}
	contents, err := source.Contents(ctx)
	if err != nil {
		return nil, err
	}
	img := &Image{Reference: ref, Digest: contents.Digest, Config: contents.Config}
	if contents.Dir != "" {
		img.Layers = []Layer{{Dir: contents.Dir}}
		return img, nil
	}
	s.sweep()
	img.Layers = make([]Layer, len(contents.Blobs))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(4, runtime.NumCPU())) // some wait for the network while others unpack
	for i, blob := range contents.Blobs {
		group.Go(func() error {
			layer, err := s.layer(groupCtx, blob, p)
			if err != nil {
				return fmt.Errorf("layer %s: %w", blob.name(), err)
			}
			img.Layers[i] = layer
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if contents.Keep != nil {
		if err := contents.Keep(ctx); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// layer is the unpacked layer of blob: the one that is here, or a new one. Who comes second waits, and has the first one's.
func (s *Store) layer(ctx context.Context, blob Blob, p Progress) (Layer, error) {
	l := s.place(blob.DiffID)
	if complete(l) {
		p(Event{Layer: blob.name(), Step: StepReuse})
		return l, nil
	}
	lock, err := acquire(ctx, s.layerBase(blob.DiffID)+".lock")
	if err != nil {
		return Layer{}, err
	}
	defer lock.release()
	if complete(l) {
		p(Event{Layer: blob.name(), Step: StepReuse})
		return l, nil
	}
	err = s.unpackBlob(ctx, blob, p)
	if errors.Is(err, ErrCorrupt) && blob.Discard != nil {
		blob.Discard()
	}
	if err != nil {
		return Layer{}, err
	}
	p(Event{Layer: blob.name(), Step: StepDone, Done: blob.Size, Total: blob.Size})
	return l, nil
}

// layerBase is the path of everything that the layer has in the store, without its ending.
func (s *Store) layerBase(diffID v1.Hash) string { return filepath.Join(s.layersDir(), diffID.Hex) }

func (s *Store) place(diffID v1.Hash) Layer {
	base := s.layerBase(diffID)
	return Layer{DiffID: diffID.String(), Dir: filepath.Join(base, "fs"), Index: filepath.Join(base, "index")}
}

// complete says whether a layer is there, whole: its index is readable and names it.
func complete(l Layer) bool {
	x, err := index.Open(l.Index)
	if err != nil {
		return false
	}
	defer x.Close()
	info, err := os.Stat(l.Dir)
	return x.Layer() == l.DiffID && err == nil && info.IsDir()
}

// sweep removes what processes that died while they unpacked have left. Who holds a layer's lock is alive.
func (s *Store) sweep() {
	leftovers, _ := filepath.Glob(filepath.Join(s.layersDir(), "*.tmp"))
	for _, dir := range leftovers {
		lock, err := tryAcquire(strings.TrimSuffix(dir, ".tmp") + ".lock")
		if err != nil || lock == nil {
			continue
		}
		_ = os.RemoveAll(dir) // the layer's next pull would say why it cannot
		lock.release()
	}
}
