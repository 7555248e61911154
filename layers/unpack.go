package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/apex/log"
	"github.com/apex/log/handlers/discard"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/umoci/oci/layer"

	"github.com/micavm/mica/layers/index"
)

// Whiteouts as the OCI image-spec writes them (layer.md); names with the second prefix are aufs's own business.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// xattrRecord is how GNU tar and bsdtar name an extended attribute in a PAX header.
const xattrRecord = "SCHILY.xattr."

// umoci warns through a global logger of what it leaves out, which here is everything that the index has.
func init() { log.SetHandler(discard.Default) }

// An unpacker puts a layer's folders and regular files under root, as plain files of whoever runs it, and what else the tar says
// of them, and all the rest, into the index. Symbolic links are only in the index: none is ever on the way to a file.
type unpacker struct {
	root      string
	index     *index.Builder
	extractor *layer.TarExtractor
}

// unpack reads the tar of one layer.
func unpack(r io.Reader, root string, b *index.Builder) error {
	u := &unpacker{root: root, index: b, extractor: layer.NewTarExtractor(&layer.UnpackOptions{
		OnDiskFormat: layer.DirRootfs{MapOptions: rootless()},
	})}
	archive := tar.NewReader(r)
	for {
		hdr, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return corrupt(err)
		}
		if err := u.entry(hdr, archive); err != nil {
			return err
		}
	}
}

// rootless makes umoci give every file to the user who runs it.
func rootless() layer.MapOptions {
	return layer.MapOptions{
		Rootless:    true,
		UIDMappings: []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}},
		GIDMappings: []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}},
	}
}

func (u *unpacker) entry(hdr *tar.Header, body io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader || isMeta(hdr.Name) {
		return nil
	}
	if strings.HasPrefix(path.Base(hdr.Name), whiteoutPrefix) {
		return u.whiteout(path.Clean("/" + hdr.Name)[1:])
	}
	name, err := u.index.Resolve(hdr.Name)
	if err != nil {
		return corrupt(err)
	}
	r, err := u.record(hdr)
	if err != nil {
		return corrupt(fmt.Errorf("%s: %w", hdr.Name, err))
	}
	old, _ := u.index.Stat(name)
	target, _ := u.index.Stat(r.Hardlink)
	if r.Hardlink != "" && target != nil && target == old {
		return nil // a link to itself
	}
	if err := u.index.Add(name, r); err != nil {
		return corrupt(err)
	}
	if r.Hardlink != "" {
		r.Mode = target.Mode
	}
	if err := u.extract(extraction{name: name, record: r, replaces: old != nil, sparse: isSparse(hdr)}, body); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return corrupt(err)
		}
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return nil
}

// isMeta says whether name is, or is in, something that aufs keeps for itself.
func isMeta(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, whiteoutMeta) && part != whiteoutOpaque {
			return true
		}
	}
	return false
}

// whiteout takes name as it is written, links not followed: a layer that puts a file or a link where a folder was may list the
// folder's old names as deleted too.
func (u *unpacker) whiteout(name string) error {
	dir, base := path.Dir(name), path.Base(name)
	file := strings.TrimPrefix(base, whiteoutPrefix)
	var err error
	switch {
	case base == whiteoutOpaque:
		err = u.index.Opaque(dir)
	case file == "" || file == "." || file == "..":
		err = fmt.Errorf("%s: a whiteout of nothing", name)
	default:
		err = u.index.Whiteout(path.Join(dir, file))
	}
	if err != nil && !errors.Is(err, syscall.ENOTDIR) {
		return corrupt(err)
	}
	return nil
}

// record is what the index holds of a header.
func (u *unpacker) record(hdr *tar.Header) (index.Record, error) {
	if hdr.Typeflag == tar.TypeLink {
		target, err := u.index.Resolve(hdr.Linkname)
		return index.Record{Hardlink: target}, err
	}
	kind, err := fileType(hdr.Typeflag)
	if err != nil {
		return index.Record{}, err
	}
	for _, n := range []int64{int64(hdr.Uid), int64(hdr.Gid), hdr.Devmajor, hdr.Devminor} {
		if n < 0 || n > math.MaxUint32 {
			return index.Record{}, fmt.Errorf("%d is no owner and no device number", n)
		}
	}
	r := index.Record{
		Mode: kind | uint32(hdr.Mode)&0o7777,
		UID:  uint32(hdr.Uid), GID: uint32(hdr.Gid),
		Sec: hdr.ModTime.Unix(), Nsec: uint32(hdr.ModTime.Nanosecond()),
		Xattrs: xattrs(hdr),
	}
	switch kind {
	case syscall.S_IFREG:
		r.Size = uint64(hdr.Size)
		if hdr.Size > maxSparse && isSparse(hdr) {
			return index.Record{}, fmt.Errorf("a sparse file of %d bytes, and at most %d are taken", hdr.Size, int64(maxSparse))
		}
	case syscall.S_IFLNK:
		r.Target, r.Mode = hdr.Linkname, kind|0o777 // Linux knows no other mode of a link
	case syscall.S_IFCHR, syscall.S_IFBLK:
		r.Major, r.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	return r, nil
}

func fileType(flag byte) (uint32, error) {
	switch flag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, '\x00':
		return syscall.S_IFREG, nil
	case tar.TypeDir:
		return syscall.S_IFDIR, nil
	case tar.TypeSymlink:
		return syscall.S_IFLNK, nil
	case tar.TypeChar:
		return syscall.S_IFCHR, nil
	case tar.TypeBlock:
		return syscall.S_IFBLK, nil
	case tar.TypeFifo:
		return syscall.S_IFIFO, nil
	}
	return 0, fmt.Errorf("unknown type %q of tar entry", flag)
}

func xattrs(hdr *tar.Header) map[string]string {
	var m map[string]string
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			if m == nil {
				m = map[string]string{}
			}
			m[name] = value
		}
	}
	return m
}

// epoch is the time of every file on the host: theirs is in the index.
var epoch = time.Unix(0, 0)

// An extraction is what the disk must agree with the index about.
type extraction struct {
	name     string
	record   index.Record
	replaces bool // something was there under this name
	sparse   bool
}

func (u *unpacker) extract(e extraction, body io.Reader) error {
	r := e.record
	hdr := &tar.Header{Name: e.name, ModTime: epoch, AccessTime: epoch}
	switch kind := r.Mode & syscall.S_IFMT; {
	case r.Hardlink != "" && kind == syscall.S_IFREG:
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, r.Hardlink
	case kind == syscall.S_IFREG:
		hdr.Typeflag, hdr.Size, hdr.Mode = tar.TypeReg, int64(r.Size), int64(r.Mode&0o755|0o600)
	case kind == syscall.S_IFDIR && e.name != ".":
		hdr.Typeflag, hdr.Mode = tar.TypeDir, int64(r.Mode&0o755|0o700)
	case kind == syscall.S_IFDIR || !e.replaces:
		return nil
	default:
		return os.RemoveAll(filepath.Join(u.root, e.name))
	}
	if hdr.Typeflag != tar.TypeReg || !e.sparse {
		return u.extractor.UnpackEntry(u.root, hdr, body)
	}
	size := hdr.Size
	hdr.Size = 0
	if err := u.extractor.UnpackEntry(u.root, hdr, strings.NewReader("")); err != nil {
		return err
	}
	return writeSparse(filepath.Join(u.root, e.name), size, body)
}
