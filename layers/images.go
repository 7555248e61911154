package layers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// stored is the image as it was pulled before; nil when it was not, or when a part of it has gone.
func (s *Store) stored(ref name.Reference) (*Contents, error) {
	path := layout.Path(s.imagesDir())
	all, err := readLayout(s.imagesDir())
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all.Manifests, func(desc v1.Descriptor) bool { return desc.Annotations[tagAnnotation] == ref.Name() })
	if at < 0 {
		return nil, nil
	}
	img, err := verifiedImage(path, all.Manifests[at])
	if errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := contentsOf(img, func(desc v1.Descriptor) Blob {
		return Blob{
			Open:    openLayoutBlob(path, desc),
			Discard: func() { _ = os.Remove(s.blobPath(desc.Digest)) },
		}
	})
	if err != nil {
		return nil, err
	}
	for _, blob := range c.Blobs {
		if info, err := os.Stat(s.blobPath(blob.Digest)); (err != nil || info.Size() != blob.Size) && !complete(s.place(blob.DiffID)) {
			return nil, nil
		}
	}
	return c, nil
}

// keepImage names an image, whose layers are in the layout, in its index.json.
func (s *Store) keepImage(ctx context.Context, tag string, img v1.Image) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	for _, data := range [][]byte{config, manifest} {
		if err := s.writeBlob(data); err != nil {
			return err
		}
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	p := platform()
	desc.Platform = &p
	desc.Annotations = map[string]string{tagAnnotation: tag}
	lock, err := acquire(ctx, filepath.Join(s.dir, "images.lock"))
	if err != nil {
		return err
	}
	defer lock.release()
	return s.nameImage(*desc)
}

// nameImage replaces what index.json has under the tag of desc. The lock is held.
func (s *Store) nameImage(desc v1.Descriptor) error {
	all, err := readLayout(s.imagesDir())
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		all = &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	} else if err != nil {
		return err
	}
	tag := desc.Annotations[tagAnnotation]
	all.Manifests = slices.DeleteFunc(all.Manifests, func(d v1.Descriptor) bool { return d.Annotations[tagAnnotation] == tag })
	all.Manifests = append(all.Manifests, desc)
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.imagesDir(), "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return writeFile(filepath.Join(s.imagesDir(), "index.json"), data)
}

// writeBlob puts a small blob into the layout, unless it is there.
func (s *Store) writeBlob(data []byte) error {
	digest := digestOf(data)
	if info, err := os.Stat(s.blobPath(digest)); err == nil && info.Size() == int64(len(data)) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(s.blobPath(digest), data)
}

func writeFile(path string, data []byte) error {
	return publishFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// publishFile makes the file at path appear, whole and on the disk.
func publishFile(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}
