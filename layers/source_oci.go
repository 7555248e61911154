package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// tagAnnotation holds a manifest's tag in the index.json of an image layout (OCI image-spec, annotations.md).
const tagAnnotation = "org.opencontainers.image.ref.name"

// An ociLayout is an image in a folder that is an OCI image layout.
type ociLayout struct {
	dir string
	tag string // "": the only image there
}

// newOCILayout reads DIR[:TAG]; a folder's name may have colons.
func newOCILayout(ref string) ociLayout {
	if info, err := os.Stat(ref); err == nil && info.IsDir() {
		return ociLayout{dir: ref}
	}
	if at := strings.LastIndexByte(ref, ':'); at >= 0 && !strings.Contains(ref[at:], "/") {
		return ociLayout{dir: ref[:at], tag: ref[at+1:]}
	}
	return ociLayout{dir: ref}
}

func (o ociLayout) Contents(context.Context) (*Contents, error) {
	path := layout.Path(o.dir)
	all, err := readLayout(o.dir)
	if err != nil {
		return nil, err
	}
	desc, err := o.choose(all.Manifests)
	if err != nil {
		return nil, err
	}
	img, err := layoutImage(path, desc)
	if err != nil {
		return nil, err
	}
	return contentsOf(img, func(desc v1.Descriptor) Blob { return Blob{Open: openLayoutBlob(path, desc)} })
}

// readLayout reads the index.json of the image layout dir.
func readLayout(dir string) (*v1.IndexManifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, notFound("no such folder")
		}
		return nil, notFound("not an OCI image layout: it has no index.json")
	}
	if err != nil {
		return nil, err
	}
	all, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrCorrupt, err)
	}
	return all, nil
}

// choose finds the tag. Several manifests may have the same one, each for another platform.
func (o ociLayout) choose(all []v1.Descriptor) (v1.Descriptor, error) {
	var tagged []v1.Descriptor
	var tags []string
	for _, desc := range all {
		tag := desc.Annotations[tagAnnotation]
		if tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
		if o.tag == "" || tag == o.tag {
			tagged = append(tagged, desc)
		}
	}
	slices.Sort(tags)
	if len(tagged) == 0 && o.tag != "" {
		return v1.Descriptor{}, notFound("no tag %q there%s", o.tag, hint(tags))
	}
	if o.tag == "" && len(tags) > 1 {
		return v1.Descriptor{}, notFound("which of its images? add a tag%s", hint(tags))
	}
	return forPlatform(tagged)
}

func hint(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	return ": it has " + strings.Join(tags, ", ")
}

// forPlatform is the manifest for this machine: one that says so, else the only one.
func forPlatform(all []v1.Descriptor) (v1.Descriptor, error) {
	for _, desc := range all {
		if desc.Platform != nil && desc.Platform.Satisfies(platform()) {
			return desc, nil
		}
	}
	if len(all) == 1 && (all[0].Platform == nil || all[0].MediaType.IsIndex()) {
		return all[0], nil
	}
	if len(all) == 0 {
		return v1.Descriptor{}, notFound("there is no image in it")
	}
	return v1.Descriptor{}, notFound("it has no image for %s", platform())
}

// layoutImage opens the image that desc names, one for each platform or not.
func layoutImage(path layout.Path, desc v1.Descriptor) (v1.Image, error) {
	for range 8 { // an index in an index is allowed; a tower of them is an attack
		if !desc.MediaType.IsIndex() {
			if !desc.MediaType.IsImage() {
				return nil, fmt.Errorf("%w: %s is not an image: its media type is %q", ErrCorrupt, desc.Digest, desc.MediaType)
			}
			return verifiedImage(path, desc)
		}
		data, err := readBlob(path, desc.Digest)
		if err != nil {
			return nil, err
		}
		all, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return nil, corrupt(err)
		}
		if desc, err = forPlatform(all.Manifests); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: too many indexes in each other", ErrCorrupt)
}

// verifiedImage opens a manifest of the layout after checking it and its configuration: the layout package believes files.
func verifiedImage(path layout.Path, desc v1.Descriptor) (v1.Image, error) {
	data, err := readBlob(path, desc.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, corrupt(fmt.Errorf("manifest: %w", err))
	}
	if _, err := readBlob(path, manifest.Config.Digest); err != nil {
		return nil, err
	}
	return loneImage{path: path, desc: desc, raw: data}.image()
}

// readBlob reads and verifies one small blob.
func readBlob(path layout.Path, digest v1.Hash) ([]byte, error) {
	data, err := path.Bytes(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: blob %s is missing", ErrCorrupt, digest)
	}
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != digest {
		return nil, fmt.Errorf("%w: blob %s has the digest %s", ErrCorrupt, digest, got)
	}
	return data, nil
}

func openLayoutBlob(path layout.Path, desc v1.Descriptor) func(context.Context, Progress) (io.ReadCloser, error) {
	return func(context.Context, Progress) (io.ReadCloser, error) {
		blob, err := path.Blob(desc.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: its blob is missing", ErrCorrupt)
		}
		return blob, err
	}
}
