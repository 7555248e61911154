package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A union is one way to show the layers of the Debian image, mounted at dir.
type union struct {
	name  string
	dir   string
	close func() error
}

// The peers of mica, as the columns of the table name them.
const (
	kernelOverlayfs = "kernel overlayfs"
	fuseOverlayfs   = "fuse-overlayfs"
)

// read measures reading of the image.
func (b *bench) read() error {
	m, err := b.mounter()
	if err != nil {
		return err
	}
	images, err := m.images(kernelOverlayfs, fuseOverlayfs)
	if err != nil {
		return err
	}
	rows, err := measureWorks(readingWorks(), images, b.rounds)
	b.add(rows...)
	if err == nil {
		var anonymous float64
		if anonymous, err = anonymousMemory(images[0].dir); err == nil {
			b.note("Memory of the server's own (RssAnon) after all reading of the Debian image: %.1f MiB; at most 40.", anonymous)
		}
	}
	return errors.Join(err, closeAll(images))
}

// write measures changes over the image's layers: first all that makes files, then what removes them.
func (b *bench) write() (err error) {
	m, err := b.mounter()
	if err != nil {
		return err
	}
	disk, remove, err := b.newDisk("write")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	archive := filepath.Join(b.dir, "small.tar")
	if err := writeArchive(archive); err != nil {
		return err
	}
	m.dir = filepath.Join(disk, "durable")
	err = b.writeIn(m, []work{copyUp(nil), untar(archive)}, []work{removal()})
	if err != nil {
		return err
	}
	m.dir, m.options = filepath.Join(disk, "volatile"), ",volatile"
	volatile := copyUp(map[string]float64{fuseOverlayfs: 0.5})
	volatile.name += ", mounted volatile: no fsync on any side"
	return b.writeIn(m, []work{volatile})
}

// writeIn measures some works, and then some more, in one set of mounts.
func (b *bench) writeIn(m mounter, parts ...[]work) error {
	writable, err := m.writable(kernelOverlayfs, fuseOverlayfs)
	if err != nil {
		return err
	}
	for _, works := range parts {
		rows, err := measureWorks(works, writable, b.rounds)
		if err != nil {
			return errors.Join(err, closeAll(writable))
		}
		b.add(rows...)
	}
	return closeAll(writable)
}

// unpackLayers unpacks the layers as the peers read them, as root, and gives their folders, the topmost first.
func unpackLayers(dir, tars string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(tars, "[0-9].tar"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no layers: run tests/setup.sh", tars)
	}
	var layers []string
	for i, file := range files {
		layer := filepath.Join(dir, fmt.Sprint("layer", i))
		if err := os.Mkdir(layer, 0o755); err != nil {
			return nil, err
		}
		// The few whiteouts are left out: every peer reads another form of them.
		if _, err := timed(exec.Command("tar", "-C", layer, "--exclude=.wh.*", "-xpf", file)); err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	slices.Reverse(layers)
	return layers, nil
}

// mounter unpacks the layers when none has done so yet.
func (b *bench) mounter() (mounter, error) {
	if len(b.layers) == 0 {
		var err error
		if b.layers, err = unpackLayers(b.dir, filepath.Join(b.cache, "debian-tars")); err != nil {
			return mounter{}, err
		}
	}
	return mounter{program: b.program, dir: filepath.Join(b.dir, "unions"), image: b.program.image("debian"), lower: strings.Join(b.layers, ":")}, nil
}

// mounter makes mounts below one folder, on the same disk for all.
type mounter struct {
	program program
	dir     string
	image   string // as mica mount takes it
	lower   string // the same, as lowerdir= takes it
	options string // more of them, for what is writable
	own     string // and more, for mica overlay
}

func (m mounter) folder(elem ...string) (string, error) {
	dir := filepath.Join(append([]string{m.dir}, elem...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// images mounts the image read-only: mica from its store, the peers from the unpacked layers.
func (m mounter) images(peers ...string) ([]union, error) {
	var unions []union
	for _, kind := range append([]string{"mica"}, peers...) {
		u, err := m.mount(kind, "image", "lowerdir="+m.lower)
		if err != nil {
			return unions, errors.Join(err, closeAll(unions))
		}
		unions = append(unions, u)
	}
	return unions, nil
}

// writable mounts the unpacked layers with an upper of their own.
func (m mounter) writable(peers ...string) ([]union, error) {
	var unions []union
	for _, kind := range append([]string{"mica overlay"}, peers...) {
		options := "lowerdir=" + m.lower
		for _, part := range []string{"upper", "work"} {
			dir, err := m.folder(slug(kind), part)
			if err != nil {
				return unions, errors.Join(err, closeAll(unions))
			}
			options += "," + part + "dir=" + dir
		}
		u, err := m.mount(kind, "writable", options+m.options)
		if err != nil {
			return unions, errors.Join(err, closeAll(unions))
		}
		unions = append(unions, u)
	}
	return unions, nil
}

func (m mounter) mount(kind, what, options string) (union, error) {
	dir, err := m.folder(slug(kind), what)
	if err != nil {
		return union{}, err
	}
	u := union{name: kind, dir: dir, close: func() error { return run("umount", dir) }}
	switch kind {
	case "mica":
		_, err = timed(m.program.command("mount", "-d", "--image", m.image, dir))
		u.close = func() error { _, err := timed(m.program.command("umount", dir)); return err }
	case "mica overlay":
		_, err = timed(m.program.command("overlay", "-o", options+m.own, dir))
	case kernelOverlayfs:
		err = run("mount", "-t", "overlay", "-o", options, "overlay", dir)
	case fuseOverlayfs:
		err = run("fuse-overlayfs", "-o", options, dir)
	}
	return u, err
}

func slug(name string) string { return strings.ReplaceAll(name, " ", "-") }

func closeAll(unions []union) error {
	var err error
	for _, u := range unions {
		err = errors.Join(err, u.close())
	}
	return err
}
