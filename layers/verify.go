package layers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A verified is a layer's uncompressed tar, hashed as it is read.
type verified struct {
	io.Reader
	err error // the first that reading gave, io.EOF aside: the layer's fault, not the disk's that it is unpacked to
}

func (v *verified) Read(b []byte) (int, error) {
	n, err := v.Reader.Read(b)
	if err != nil && err != io.EOF && v.err == nil {
		v.err = err
	}
	return n, err
}

// readVerified opens blob, lets read have its uncompressed tar, and afterwards says whether all of it was what its digests say.
func readVerified(ctx context.Context, blob Blob, p Progress, read func(*verified) error) error {
	body, err := blob.Open(ctx, p)
	if err != nil {
		return err
	}
	defer body.Close()
	m := &meter{Reader: body, progress: p, event: Event{Layer: blob.name(), Step: StepUnpack, Total: blob.Size}}
	raw := newHashed(&cancelled{ctx, m})
	tar, err := decompress(raw)
	if err != nil {
		return firstOf(ctx, raw.check(blob), corrupt(err))
	}
	plain := newHashed(tar)
	pieces := readAhead(plain)
	v := &verified{Reader: pieces}
	err = read(v)
	if err == nil {
		_, err = io.Copy(io.Discard, v) // what a tar has after its end counts for its digest
	}
	if v.err != nil {
		err = corrupt(v.err)
	}
	pieces.Close() // nothing else reads from plain after it,
	tar.Close()    // and nothing from raw
	if bad := raw.check(blob); bad != nil || err != nil {
		return firstOf(ctx, bad, err)
	}
	if got := plain.sum(); got != blob.DiffID {
		return fmt.Errorf("%w: the digest of its tar is %s, not %s", ErrCorrupt, got, blob.DiffID)
	}
	return nil
}

// firstOf is the end of ctx, or else the first error.
func firstOf(ctx context.Context, errs ...error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A cancelled reader ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// A hashed reader knows the digest and the length of what was read through it.
type hashed struct {
	r    io.Reader
	hash hash.Hash
	size int64
}

func newHashed(r io.Reader) *hashed { return &hashed{r: r, hash: sha256.New()} }

func (h *hashed) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.hash.Write(b[:n])
	h.size += int64(n)
	return n, err
}

func digestOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func (h *hashed) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.hash.Sum(nil))}
}

// check reads what is left and compares it with what blob should be. Of a damaged blob this says more than what its damage did to the
// unpacking.
func (h *hashed) check(blob Blob) error {
	if blob.Digest == (v1.Hash{}) {
		return nil
	}
	if _, err := io.Copy(io.Discard, h); err != nil {
		return corrupt(err)
	}
	if h.size != blob.Size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrCorrupt, h.size, blob.Size)
	}
	if got := h.sum(); got != blob.Digest {
		return fmt.Errorf("%w: its digest is %s", ErrCorrupt, got)
	}
	return nil
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// zstdMemory is the most that decoding one layer may take: the largest window that zstd makes without being told to.
const zstdMemory = 128 << 20

// decompress goes by the first bytes, as media types are often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(head, zstdMagic):
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(zstdMemory), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}
