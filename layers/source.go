package layers

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Source is where one image comes from.
type Source interface {
	// Contents finds the image and says what it is made of; layers are not fetched yet.
	Contents(ctx context.Context) (*Contents, error)
}

// Contents is an image as its source has it.
type Contents struct {
	Digest string
	Config Config
	Blobs  []Blob // bottom to top
	Dir    string // of a folder that is an image: there are no blobs
	// Keep is called when every layer is unpacked; nil when there is nothing to keep.
	Keep func(ctx context.Context) error
}

// A Blob is one layer as its source has it.
type Blob struct {
	Digest v1.Hash // of the bytes that Open gives; zero when the source knows only the diff ID
	Size   int64   // of those bytes; 0 when unknown
	DiffID v1.Hash
	// Open gives the layer's tar, which may be compressed. Who unpacks it verifies it.
	Open func(ctx context.Context, p Progress) (io.ReadCloser, error)
	// Discard is told that what Open gave was corrupt; nil when the source keeps no copy.
	Discard func()
}

// name is what the layer is called in messages.
func (b Blob) name() string {
	if b.Digest != (v1.Hash{}) {
		return b.Digest.String()
	}
	return b.DiffID.String()
}

// source finds who understands the reference: "oci:DIR[:TAG]", "docker-archive:FILE", a folder ("/…", "./…", "../…"), or
// else a registry's.
func (s *Store) source(ref string, policy Policy, p Progress) (Source, error) {
	switch scheme, rest, _ := strings.Cut(ref, ":"); {
	case scheme == "oci":
		return newOCILayout(rest), nil
	case scheme == "docker-archive":
		return dockerArchive{path: rest}, nil
	case isFolder(ref):
		return folder{path: ref}, nil
	}
	return newRegistry(s, ref, policy, p)
}

func isFolder(ref string) bool {
	return ref == "." || ref == ".." || strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../")
}

// platform is what an image for this machine says of itself.
func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// contentsOf is what the manifest and the configuration of img say. blob says how one of its layers is opened.
func contentsOf(img v1.Image, blob func(v1.Descriptor) Blob) (*Contents, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, corrupt(fmt.Errorf("manifest: %w", err))
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, corrupt(fmt.Errorf("configuration: %w", err))
	}
	if err := checkPlatform(config); err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, corrupt(err)
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(manifest.Layers) {
		return nil, fmt.Errorf("%w: manifest has %d layers, configuration has %d", ErrCorrupt, len(manifest.Layers), len(diffIDs))
	}
	c := &Contents{Digest: digest.String(), Config: configOf(config)}
	for i, desc := range manifest.Layers {
		b := blob(desc)
		b.Digest, b.Size, b.DiffID = desc.Digest, desc.Size, diffIDs[i]
		c.Blobs = append(c.Blobs, b)
	}
	return c, nil
}

// checkPlatform refuses an image for another machine. One that does not say is believed.
func checkPlatform(config *v1.ConfigFile) error {
	want := platform()
	os, arch := config.OS, config.Architecture
	if (os == "" || os == want.OS) && (arch == "" || arch == want.Architecture) {
		return nil
	}
	return fmt.Errorf("it is for %s/%s, and this machine is %s/%s", os, arch, want.OS, want.Architecture)
}
