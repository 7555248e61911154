package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/layers"
)

// layerCounts and fileCounts are what the plots go through.
var (
	layerCounts = []int{1, 4, 16, 64, 128}
	fileCounts  = []int{1_000, 10_000, 100_000, 1_000_000}
)

const manyLayers = 128

// scale measures how cost grows with the files and the layers of an image.
func (b *bench) scale() error {
	return errors.Join(b.growWithFiles(), b.growWithLayers())
}

// growWithFiles mounts images of more and more empty files in 128 layers, finds all files, and looks at the server's memory.
func (b *bench) growWithFiles() error {
	mounted, memory := line{name: "128 layers"}, line{name: "128 layers"}
	var last row
	for _, files := range fileCounts {
		image, err := b.syntheticImage(files, manyLayers)
		if err != nil {
			return err
		}
		last, err = measure(fmt.Sprintf("mount to first answer, %d files in %d layers", files, manyLayers), b.rounds,
			map[string]func() (time.Duration, error){"mica": func() (time.Duration, error) { return b.program.mount(image, syntheticFolder(0)) }}, "mica")
		if err != nil {
			return err
		}
		mounted.points = append(mounted.points, point{float64(files), milliseconds(median(last.times["mica"]))})
		anonymous, err := b.memoryAfterFind(image, files)
		if err != nil {
			return err
		}
		memory.points = append(memory.points, point{float64(files), anonymous})
	}
	last.targets = map[string]float64{"ms": 100}
	b.add(last)
	b.note("Memory of the server's own (RssAnon) after find over %d files in %d layers: %.1f MiB; at most 150.",
		fileCounts[len(fileCounts)-1], manyLayers, memory.points[len(memory.points)-1].y)
	b.result.plots = append(b.result.plots,
		plot{file: "mount.svg", title: "Mount to first answer", xLabel: "files in the image", label: "ms", lines: []line{mounted}},
		plot{file: "memory.svg", title: "Memory of the server's own after find", xLabel: "files in the image", label: "MiB", lines: []line{memory}})
	return nil
}

func (b *bench) memoryAfterFind(image string, files int) (anonymous float64, err error) {
	m := mounter{program: b.program, dir: filepath.Join(b.dir, "scale"), image: image}
	u, err := m.mount("mica", fmt.Sprint(files), "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	if _, err := find(u.dir); err != nil {
		return 0, err
	}
	return anonymousMemory(u.dir)
}

// lookedUp is how many files the images have in which names are looked up.
const lookedUp = 100_000

// growWithLayers looks up the same files in images of more and more layers, within this process.
func (b *bench) growWithLayers() error {
	sides := make(map[string]func() (time.Duration, error))
	var names []string
	for _, count := range layerCounts {
		image, err := b.syntheticImage(lookedUp, count)
		if err != nil {
			return err
		}
		union, err := b.openImage(image)
		if err != nil {
			return err
		}
		defer union.Close()
		client := union.Connect(fusefs.ConnectOptions{ReadOnly: true, Guest: true})
		defer client.Close()
		name := plural(count, "layer")
		names = append(names, name)
		sides[name] = func() (time.Duration, error) { return lookUpAll(client) }
	}
	r, err := measure(fmt.Sprintf("look-up of %d names", lookedUp), b.rounds, sides, names...)
	if err != nil {
		return err
	}
	cost := line{name: "mica"}
	for i, name := range names {
		cost.points = append(cost.points, point{float64(layerCounts[i]), float64(median(r.times[name]).Nanoseconds()) / lookedUp})
		if layerCounts[i] == 16 || layerCounts[i] == manyLayers {
			b.add(row{work: r.work + ", " + name, sides: []string{name, names[0]}, times: r.times, targets: map[string]float64{names[0]: 1.1}})
		}
	}
	b.result.plots = append(b.result.plots,
		plot{file: "lookup.svg", title: "One look-up", xLabel: "layers of the image", label: "ns", lines: []line{cost}})
	return nil
}

func (b *bench) openImage(reference string) (*fusefs.FS, error) {
	store, err := layers.OpenStore(filepath.Join(b.dir, "mica"), filepath.Join(b.dir, "mica"))
	if err != nil {
		return nil, err
	}
	image, err := store.Pull(context.Background(), reference, nil)
	if err != nil {
		return nil, err
	}
	var c fusefs.Config
	for _, l := range image.Layers {
		c.Layers = append(c.Layers, fusefs.Layer{Dir: l.Dir, Index: l.Index})
	}
	return fusefs.New(c)
}

// lookUpAll looks up every file once, and forgets it.
func lookUpAll(client *fusefs.Connection) (time.Duration, error) {
	start := time.Now()
	for folder := range syntheticFolders(lookedUp) {
		var dir fuse.EntryOut
		if st := client.Lookup(nil, &fuse.InHeader{NodeId: 1}, syntheticFolder(folder), &dir); !st.Ok() {
			return 0, fmt.Errorf("look up %s: %v", syntheticFolder(folder), st)
		}
		for file := range filesPerFolder {
			var found fuse.EntryOut
			if st := client.Lookup(nil, &fuse.InHeader{NodeId: dir.NodeId}, syntheticFile(file), &found); !st.Ok() || found.NodeId == 0 {
				return 0, fmt.Errorf("look up %s: %v", syntheticFile(file), st)
			}
			client.Forget(found.NodeId, 1)
		}
		client.Forget(dir.NodeId, 1)
	}
	return time.Since(start), nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
