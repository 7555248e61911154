package differential

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/layers/index"
)

// A File is one name of a lower layer. Its zero values are those of an empty file of root, so that printed cases are short.
type File struct {
	Path     string // from the layer's root
	Mode     uint32 // type and permissions
	UID, GID int
	Rdev     uint64
	Size     int    // of a regular file; its contents follow from its path
	Hole     bool   // its second quarter is one
	Target   string // of a symbolic link
	Link     string // an earlier path of the same layer, which this is a hard link to; nothing else counts then
	Xattrs   map[string]string
	Whiteout bool // hides what is below; nothing else counts then
	Opaque   bool // of a folder
}

// A Layer is a layer's files, each after the folder that it is in.
type Layer []File

// layerTime is the first layer's time of modification; the others count on from it.
const layerTime = 1_000_000_000

// write makes the layer in dir, in the form of kernel overlayfs.
func (l Layer) write(dir string, number int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, f := range l {
		if err := f.write(dir); err != nil {
			return fmt.Errorf("make layer: %w", err)
		}
	}
	for i := len(l) - 1; i >= 0; i-- {
		if err := setTime(filepath.Join(dir, l[i].Path), l.time(number, i)); err != nil {
			return err
		}
	}
	return setTime(dir, layerTime)
}

// time is the time of the file i: a hard link has that of its file.
func (l Layer) time(number, i int) int64 {
	first := l.first(l[i].Path)
	i = slices.IndexFunc(l, func(f File) bool { return f.Path == first })
	return layerTime + int64(number*1000+i)
}

func setTime(path string, seconds int64) error {
	t := unix.Timespec{Sec: seconds, Nsec: 123456789}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (f File) write(dir string) error {
	name := filepath.Join(dir, f.Path)
	switch {
	case f.Whiteout:
		return unix.Mknod(name, unix.S_IFCHR, 0)
	case f.Link != "":
		return os.Link(filepath.Join(dir, f.Link), name)
	}
	var err error
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = f.writeContents(name)
	case unix.S_IFDIR:
		err = os.Mkdir(name, 0o700)
	case unix.S_IFLNK:
		err = os.Symlink(f.Target, name)
	default:
		err = unix.Mknod(name, f.Mode&unix.S_IFMT|0o600, int(f.Rdev))
	}
	if err != nil {
		return err
	}
	return f.writeAttributes(name)
}

func (f File) writeContents(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(f.contents()); err != nil {
		return errors.Join(err, file.Close())
	}
	if f.Hole {
		start, end := f.hole()
		err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(start), int64(end-start))
	}
	return errors.Join(err, file.Close())
}

func (f File) contents() []byte {
	return pattern(f.Size, byte(len(f.Path)+f.Size))
}

func (f File) hole() (start, end int) { return f.Size / 4, f.Size/2 + 1 }

func (f File) writeAttributes(name string) error {
	if err := os.Lchown(name, f.UID, f.GID); err != nil {
		return err
	}
	if f.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(name, f.Mode&0o7777); err != nil {
			return err
		}
	}
	if f.Opaque {
		if err := unix.Setxattr(name, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			return err
		}
	}
	for key, value := range f.Xattrs {
		if err := unix.Lsetxattr(name, key, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// writeIndex writes the layer's index to file.
func (l Layer) writeIndex(file string, number int) (err error) {
	b := index.NewBuilder(fmt.Sprint("layer ", number))
	if err := b.Add(".", index.Record{Mode: unix.S_IFDIR | 0o755, Sec: layerTime, Nsec: 123456789}); err != nil {
		return err
	}
	for i, f := range l {
		if err := f.addTo(b, l.time(number, i)); err != nil {
			return err
		}
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = b.WriteTo(out)
	return errors.Join(err, out.Close())
}

func (f File) addTo(b *index.Builder, seconds int64) error {
	if f.Whiteout {
		return b.Whiteout(f.Path)
	}
	if f.Opaque {
		if err := b.Opaque(f.Path); err != nil {
			return err
		}
	}
	return b.Add(f.Path, index.Record{
		Mode: f.Mode, UID: uint32(f.UID), GID: uint32(f.GID), Major: unix.Major(f.Rdev), Minor: unix.Minor(f.Rdev),
		Size: uint64(f.Size), Sec: seconds, Nsec: 123456789, Target: f.Target, Xattrs: f.Xattrs, Hardlink: f.Link,
	})
}

// without gives the layer without file i and all that cannot be without it.
func (l Layer) without(i int) Layer {
	gone := l[i].Path
	var rest Layer
	for j, f := range l {
		if j != i && !strings.HasPrefix(f.Path, gone+"/") && f.Link != gone && !strings.HasPrefix(f.Link, gone+"/") {
			rest = append(rest, f)
		}
	}
	return rest
}

// hasFolder reports whether dir is a folder of the layer.
func (l Layer) hasFolder(dir string) bool {
	for _, f := range l {
		if f.Path == dir {
			return f.Mode&unix.S_IFMT == unix.S_IFDIR
		}
	}
	return dir == "."
}

// free reports whether the layer can have a file at name.
func (l Layer) free(name string) bool {
	for _, f := range l {
		if f.Path == name {
			return false
		}
	}
	return l.hasFolder(path.Dir(name))
}

// hides reports whether a whiteout at name in l, above the layers below, is in a folder that is merged. Elsewhere there is nothing to
// hide, and overlayfs lists the whiteout as a file.
func hides(below []Layer, l Layer, name string) bool {
	dir := path.Dir(name)
	for _, f := range l {
		if f.Opaque && (f.Path == dir || strings.HasPrefix(dir, f.Path+"/")) {
			return false
		}
	}
	return dir == "." && len(below) > 0 || showsFolder(below, dir)
}

// withoutHiddenLinks leaves out the hard links of files of which the layers above hide a name.
func (l Layer) withoutHiddenLinks(above []Layer) Layer {
	hidden := map[string]bool{}
	for _, f := range l {
		if isHidden(above, f.Path) {
			hidden[l.first(f.Path)] = true
		}
	}
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Link != "" && hidden[l.first(l[i].Path)] {
			l = l.without(i)
		}
	}
	return l
}

// first is the name that a file has had first.
func (l Layer) first(name string) string {
	for _, f := range l {
		if f.Path == name && f.Link != "" {
			return l.first(f.Link)
		}
	}
	return name
}

// isHidden reports whether layers above a file of this name hide it.
func isHidden(above []Layer, name string) bool {
	for _, l := range above {
		for _, f := range l {
			if f.Path == name || strings.HasPrefix(name, f.Path+"/") && (f.Opaque || f.Mode&unix.S_IFMT != unix.S_IFDIR) {
				return true
			}
		}
	}
	return false
}

// showsFolder reports whether layers, the bottom first, show a folder at dir.
func showsFolder(layers []Layer, dir string) bool {
	for i := len(layers) - 1; i >= 0; i-- {
		opaque := false
		for _, f := range layers[i] {
			if f.Path != dir && !strings.HasPrefix(dir, f.Path+"/") {
				continue
			}
			if f.Whiteout || f.Mode&unix.S_IFMT != unix.S_IFDIR {
				return false
			}
			if f.Path == dir {
				return true
			}
			opaque = opaque || f.Opaque
		}
		if opaque {
			return false
		}
	}
	return false
}

// pattern is n bytes that tell their place and seed.
func pattern(n int, seed byte) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = seed + byte(i) + byte(i>>8)
	}
	return data
}
