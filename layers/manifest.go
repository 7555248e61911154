package layers

import (
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A loneImage is a manifest in a layout whose index.json need not name it: the image of an index does not stand there.
type loneImage struct {
	path layout.Path
	desc v1.Descriptor
	raw  []byte
}

func (l loneImage) image() (v1.Image, error) { return partial.CompressedToImage(l) }

func (l loneImage) RawManifest() ([]byte, error)        { return l.raw, nil }
func (l loneImage) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l loneImage) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(l)
	if err != nil {
		return nil, err
	}
	return l.path.Bytes(manifest.Config.Digest)
}

func (l loneImage) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) {
	return nil, errors.New("layers are opened as blobs")
}
