package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"
)

// A blobClient fetches blobs of one repository.
type blobClient struct {
	repo name.Repository
	http *http.Client
}

// get asks for the bytes of a blob from an offset on, and says at which one the answer begins.
func (c *blobClient) get(ctx context.Context, desc v1.Descriptor, from int64) (io.ReadCloser, int64, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", c.repo.Scheme(), c.repo.RegistryStr(), c.repo.RepositoryStr(), desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, desc.Size-1))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusOK {
		from = 0
	}
	return resp.Body, from, nil
}

func (s *Store) blobPath(digest v1.Hash) string {
	return filepath.Join(s.imagesDir(), "blobs", digest.Algorithm, digest.Hex)
}

// openOrDownload opens the blob in the store, fetching it when it is not there.
func (s *Store) openOrDownload(ctx context.Context, c *blobClient, desc v1.Descriptor, p Progress) (io.ReadCloser, error) {
	f, err := os.Open(s.blobPath(desc.Digest))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	lock, err := acquire(ctx, filepath.Join(s.downloadsDir(), desc.Digest.Hex+".lock"))
	if err != nil {
		return nil, err
	}
	defer lock.release()
	f, err = os.Open(s.blobPath(desc.Digest))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err // somebody else had the lock, and fetched it
	}
	if err := s.download(ctx, c, desc, p); err != nil {
		return nil, err
	}
	return os.Open(s.blobPath(desc.Digest))
}

// download fetches a blob, from where an earlier attempt stopped, and puts it into the store.
func (s *Store) download(ctx context.Context, c *blobClient, desc v1.Descriptor, p Progress) error {
	path := filepath.Join(s.downloadsDir(), desc.Digest.Hex+".partial")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	begun, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	err = fetch(ctx, c, desc, f, p)
	if begun > 0 && errors.Is(err, ErrCorrupt) { // what was there may be to blame
		if err := f.Truncate(0); err != nil {
			return err
		}
		err = fetch(ctx, c, desc, f, p)
	}
	if errors.Is(err, ErrCorrupt) {
		_ = os.Remove(path)
	}
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return move(path, s.blobPath(desc.Digest))
}

const (
	fetchAttempts = 4 // without one new byte
	fetchPause    = 200 * time.Millisecond
)

// fetch appends to f until it has the size of desc, and compares digests. A connection that breaks is taken up again where it broke.
func fetch(ctx context.Context, c *blobClient, desc v1.Descriptor, f *os.File, p Progress) error {
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have > desc.Size {
		have = 0
	}
	var last error
	for attempt := 1; have < desc.Size; attempt++ {
		if attempt > fetchAttempts {
			return last
		}
		if attempt > 1 {
			pause(ctx, time.Duration(attempt)*fetchPause)
		}
		before := have
		have, last = fetchOnce(ctx, c, desc, f, have, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if answer := (*transport.Error)(nil); errors.As(last, &answer) && !answer.Temporary() && before == 0 {
			return last
		}
		if have > before {
			attempt = 0
		}
		if last == nil && have < desc.Size {
			last = fmt.Errorf("%w: it has %d bytes of %d", ErrCorrupt, have, desc.Size)
			if have == before {
				return last
			}
		}
	}
	return checkFile(f, desc)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// fetchOnce is one request. It returns how much of the blob f has after it; 0 when what is there cannot be continued.
func fetchOnce(ctx context.Context, c *blobClient, desc v1.Descriptor, f *os.File, have int64, p Progress) (int64, error) {
	body, from, err := c.get(ctx, desc, have)
	if err != nil {
		if answer := (*transport.Error)(nil); errors.As(err, &answer) && answer.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return 0, err
		}
		return have, err
	}
	defer body.Close()
	if err := f.Truncate(from); err != nil {
		return 0, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	event := Event{Layer: desc.Digest.String(), Step: StepDownload, Done: from, Total: desc.Size}
	n, err := io.Copy(f, &meter{Reader: io.LimitReader(body, desc.Size-from), progress: p, event: event})
	return from + n, err
}

// checkFile compares what f holds with desc.
func checkFile(f *os.File, desc v1.Descriptor) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return newHashed(f).check(Blob{Digest: desc.Digest, Size: desc.Size})
}

// move renames the file from to the path to, whose folder it makes; across filesystems, by a copy beside it.
func move(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if errors.Is(err, unix.EXDEV) {
		if err = copyFile(from, to); err == nil {
			err = os.Remove(from)
		}
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	return publishFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}
