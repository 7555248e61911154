package layers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/micavm/mica/layers/index"
)

// unpackBlob makes the layer of blob; its lock is held. It appears whole, by a rename after everything of it is on the disk.
func (s *Store) unpackBlob(ctx context.Context, blob Blob, p Progress) error {
	base := s.layerBase(blob.DiffID)
	tmp := base + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "fs")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	disk, err := startWriteBack(tmp)
	if err != nil {
		return err
	}
	defer disk.close()
	builder := index.NewBuilder(blob.DiffID.String())
	err = readVerified(ctx, blob, p, func(tar *verified) error { return unpack(&counted{tar, disk.wrote}, root, builder) })
	if err != nil {
		return err
	}
	if err := writeIndex(filepath.Join(tmp, "index"), builder); err != nil {
		return err
	}
	if err := disk.finish(); err != nil {
		return err
	}
	if err := os.RemoveAll(base); err != nil { // something that is not a complete layer
		return err
	}
	if err := os.Rename(tmp, base); err != nil {
		return err
	}
	return syncFolder(s.layersDir())
}

func writeIndex(path string, b *index.Builder) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
