package layers

import (
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// An Image is what a reference stands for at this moment.
type Image struct {
	Reference string
	Digest    string  // of the manifest for this platform; of the configuration for a docker archive; "" for a folder
	Layers    []Layer // bottom to top, in the manifest's order
	Config    Config
}

// A Layer is one unpacked layer. A folder that is an image has only Dir.
type Layer struct {
	DiffID string // "sha256:…", of the uncompressed tar
	Dir    string // folders and regular files, owned by who unpacked them
	Index  string // file of layers/index
}

// A Config is what the image says of how it is run.
type Config struct {
	Env             []string // KEY=VALUE
	Dir, User       string
	StopSignal      string
	Entrypoint, Cmd []string
	Volumes, Ports  []string // sorted; a port is "80/tcp"
	Labels          map[string]string
}

func configOf(file *v1.ConfigFile) Config {
	c := file.Config
	return Config{
		Env:        c.Env,
		Dir:        c.WorkingDir,
		User:       c.User,
		StopSignal: c.StopSignal,
		Entrypoint: c.Entrypoint,
		Cmd:        c.Cmd,
		Volumes:    slices.Sorted(maps.Keys(c.Volumes)),
		Ports:      slices.Sorted(maps.Keys(c.ExposedPorts)),
		Labels:     c.Labels,
	}
}
