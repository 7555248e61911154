package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const filesPerFolder = 1000

func syntheticFolder(i int) string { return fmt.Sprintf("folder-%04d", i) }

func syntheticFile(i int) string { return fmt.Sprintf("file-%04d", i) }

func syntheticFolders(files int) int { return max(files/filesPerFolder, 1) }

// syntheticImage makes an image of empty files, each folder spread over all layers, pulls it, and gives its reference.
func (b *bench) syntheticImage(files, layers int) (reference string, err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("image-%d-%d", files, layers))
	reference = "oci:" + dir + ":latest"
	if _, err := os.Stat(dir); err == nil {
		return reference, nil
	}
	tars, err := os.MkdirTemp(b.dir, "tars-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tars)) }()
	image := v1.Image(empty.Image)
	for layer := range layers {
		path := filepath.Join(tars, fmt.Sprint(layer))
		if err := writeSyntheticLayer(path, files, layer, layers); err != nil {
			return "", err
		}
		l, err := tarball.LayerFromFile(path)
		if err != nil {
			return "", err
		}
		if image, err = mutate.AppendLayers(image, l); err != nil {
			return "", err
		}
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	if err := l.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		return "", err
	}
	_, err = timed(b.program.command("pull", reference))
	return reference, err
}

// writeSyntheticLayer writes one of the layers as a tar file: every layers-th file, so that all have the same.
func writeSyntheticLayer(path string, files, layer, layers int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(file)
	w := tar.NewWriter(buffered)
	for folder := range syntheticFolders(files) {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: syntheticFolder(folder) + "/", Mode: 0o755, ModTime: time.Unix(1e9, 0)})
		for i := layer; err == nil && i < min(files, filesPerFolder); i += layers {
			err = w.WriteHeader(&tar.Header{Name: syntheticFolder(folder) + "/" + syntheticFile(i), Mode: 0o644, ModTime: time.Unix(1e9, 0)})
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return errors.Join(w.Close(), buffered.Flush(), file.Close())
}
