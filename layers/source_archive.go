package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A dockerArchive is what docker save writes, with one image in it.
type dockerArchive struct{ path string }

func (d dockerArchive) Contents(context.Context) (*Contents, error) {
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("no such file")
	}
	opener := func() (io.ReadCloser, error) { return os.Open(d.path) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, corrupt(err)
	}
	if len(manifest) != 1 {
		return nil, fmt.Errorf("%d images are in it, and it must be one", len(manifest))
	}
	img, err := tarball.Image(opener, nil)
	if err != nil {
		return nil, corrupt(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, corrupt(fmt.Errorf("configuration: %w", err))
	}
	if err := checkPlatform(config); err != nil {
		return nil, err
	}
	digest, err := img.ConfigName()
	if err != nil {
		return nil, corrupt(err)
	}
	if len(config.RootFS.DiffIDs) != len(manifest[0].Layers) {
		return nil, fmt.Errorf("%w: manifest has %d layers, configuration has %d", ErrCorrupt, len(manifest[0].Layers), len(config.RootFS.DiffIDs))
	}
	c := &Contents{Digest: digest.String(), Config: configOf(config)}
	for _, diffID := range config.RootFS.DiffIDs {
		c.Blobs = append(c.Blobs, Blob{DiffID: diffID, Open: openArchiveLayer(img, diffID)})
	}
	return c, nil
}

func openArchiveLayer(img v1.Image, diffID v1.Hash) func(context.Context, Progress) (io.ReadCloser, error) {
	return func(context.Context, Progress) (io.ReadCloser, error) {
		layer, err := img.LayerByDiffID(diffID)
		if err != nil {
			return nil, corrupt(err)
		}
		r, err := layer.Uncompressed()
		if err != nil {
			return nil, corrupt(err)
		}
		return r, nil
	}
}
