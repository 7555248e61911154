package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A registry is an image that a registry serves, and that the store keeps as it came.
type registry struct {
	store    *Store
	ref      name.Reference
	policy   Policy
	progress Progress
}

func newRegistry(s *Store, ref string, policy Policy, p Progress) (Source, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("neither a registry's reference nor oci:DIR, docker-archive:FILE or a folder that begins with / or ./: %w", err)
	}
	return registry{store: s, ref: parsed, policy: policy, progress: p}, nil
}

func (r registry) Contents(ctx context.Context) (*Contents, error) {
	if r.policy != Always {
		c, err := r.store.stored(r.ref)
		if c != nil || err != nil {
			return c, err
		}
	}
	if r.policy == Never {
		return nil, notFound("it has not been pulled, and the pull policy is never")
	}
	desc, err := remote.Get(r.ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithPlatform(platform()))
	if err != nil {
		return nil, explain(ctx, err)
	}
	img, err := desc.Image()
	if err != nil {
		return nil, explain(ctx, err)
	}
	client, err := r.client(ctx)
	if err != nil {
		return nil, explain(ctx, err)
	}
	c, err := contentsOf(img, func(desc v1.Descriptor) Blob {
		return Blob{
			Open: func(ctx context.Context, p Progress) (io.ReadCloser, error) {
				return r.store.openOrDownload(ctx, client, desc, p)
			},
			Discard: func() { _ = os.Remove(r.store.blobPath(desc.Digest)) },
		}
	})
	if err != nil {
		return nil, explain(ctx, err)
	}
	c.Keep = func(ctx context.Context) error { return r.keep(ctx, client, img) }
	return c, nil
}

// keep adds the image to the store's layout once all of it has come.
func (r registry) keep(ctx context.Context, client *blobClient, img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, desc := range manifest.Layers { // a layer that another source had unpacked
		blob, err := r.store.openOrDownload(ctx, client, desc, r.progress)
		if err != nil {
			return err
		}
		blob.Close()
	}
	return r.store.keepImage(ctx, r.ref.Name(), img)
}

// client speaks to the registry as the Docker configuration says, for blobs: the registry package does not resume them.
func (r registry) client(ctx context.Context) (*blobClient, error) {
	repo := r.ref.Context()
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if err != nil {
		return nil, err
	}
	inner := transport.NewRetry(remote.DefaultTransport)
	t, err := transport.NewWithContext(ctx, repo.Registry, auth, inner, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &blobClient{repo: repo, http: &http.Client{Transport: t}}, nil
}

// explain says what a registry's answer means.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return notFound("the registry has no such image")
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the registry does not show it: check the name, or log in with docker login")
	}
	return err
}
