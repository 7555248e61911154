package differential

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/tests/mount"
	treepkg "github.com/micavm/mica/tests/tree"
)

// A mounter mounts one of the two unions at dir.
type mounter func(s mount.Stack, dir string) (mount.Mount, error)

// overlay mounts kernel overlayfs with options.
func overlay(options string) mounter {
	return func(s mount.Stack, dir string) (mount.Mount, error) { return mount.NewOverlay(s, dir, options) }
}

// reference is what mica is compared with.
const reference = "redirect_dir=on,index=on,metacopy=on,xino=on"

// mica mounts mica's union.
func mica(s mount.Stack, dir string) (mount.Mount, error) { return mount.NewMica(s, dir) }

// micaThrough mounts mica's union with passthrough.
func micaThrough(s mount.Stack, dir string) (mount.Mount, error) {
	s.Passthrough = true
	return mount.NewMica(s, dir)
}

// A bench is where unions of the same lower layers are made, again and again.
type bench struct {
	dir     string
	layers  []Layer
	indexed bool // mica reads the layers' indexes, not the folders
	count   int
}

func newBench(parent string, layers []Layer, indexed bool) (*bench, error) {
	dir, err := os.MkdirTemp(parent, "case-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, layers: layers, indexed: indexed}
	for i, l := range layers {
		if err := l.write(b.layer(i), i); err != nil {
			return nil, err
		}
		if err := l.writeIndex(b.index(i), i); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) layer(i int) string { return filepath.Join(b.dir, fmt.Sprintf("layer%d", i)) }
func (b *bench) index(i int) string { return filepath.Join(b.dir, fmt.Sprintf("index%d", i)) }

func (b *bench) remove() error { return os.RemoveAll(b.dir) }

// A pair is two unions that should be alike.
type pair struct {
	want, got  *side
	dir        string
	fallocated bool // some file has room that was never written
}

// pair makes two unions with empty uppers.
func (b *bench) pair(want, got mounter) (*pair, error) {
	b.count++
	p := &pair{dir: filepath.Join(b.dir, fmt.Sprintf("pair%d", b.count))}
	var err error
	if p.want, err = b.side(filepath.Join(p.dir, "want"), want); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.got, err = b.side(filepath.Join(p.dir, "got"), got); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (b *bench) side(dir string, m mounter) (*side, error) {
	s := mount.Stack{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	at := filepath.Join(dir, "merged")
	for _, name := range []string{s.Upper, s.Work, at} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return nil, err
		}
	}
	// The root's times are then the same on both sides, until something is made in it.
	if err := setTime(s.Upper, layerTime); err != nil {
		return nil, err
	}
	for i := range b.layers {
		s.Lower = append(s.Lower, b.layer(i))
		if b.indexed {
			s.Indexes = append(s.Indexes, b.index(i))
		}
	}
	mounted, err := m(s, at)
	if err != nil {
		return nil, err
	}
	return newSide(mounted)
}

func (p *pair) close() error {
	var errs []error
	for _, s := range []*side{p.want, p.got} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(p.dir)
}

// both does the operation on both sides.
func (p *pair) both(op Op) (want, got outcome, err error) {
	p.want.ops <- op
	p.got.ops <- op
	want, got = p.want.answer(), p.got.answer()
	if want.err != nil {
		err = fmt.Errorf("reference: %w", want.err)
	}
	return want, got, err
}

// step does an operation and says what differs, or nothing. The error is the harness's or the reference's.
func (p *pair) step(op Op) (string, error) {
	if op.Kind == Remount {
		return p.remount()
	}
	want, got, err := p.both(op)
	if err != nil {
		return "", err
	}
	if got.err != nil {
		return got.err.Error(), nil
	}
	p.fallocated = p.fallocated || op.Kind == Fallocate
	if again := p.alike(op, want, got); again.Kind != "" {
		op = again
		if want, got, err = p.both(op); err != nil {
			return "", err
		}
	}
	if want.result != got.result && !removesNoACL(op, want, got) {
		return fmt.Sprintf("result: want %q, got %q", want.result, got.result), nil
	}
	for i := range want.touched {
		if want.touched[i] != got.touched[i] {
			return fmt.Sprintf("afterwards:\n\twant %s\n\tgot  %s", want.touched[i], got.touched[i]), nil
		}
	}
	return got.movedInodes(op), nil
}

// alike is the request that makes the two sides alike again after a difference of o that is allowed, or nothing.
func (p *pair) alike(o Op, want, got outcome) Op {
	o.As, o.Umask = 0, 0
	switch {
	case p.fallocated && seeksAnother(o, want, got):
		o.Flags, o.Off = unix.SEEK_SET, 0
	case setsTime(o, want, got):
		o.Kind = touch
	case touchesFolder(o, want, got):
		o.Kind = touchFolder
	case changesNameless(o, want, got):
		o.Kind = closeFiles
	default:
		return Op{}
	}
	return o
}

// movedInodes says when a file has lost its inode number.
func (o outcome) movedInodes(op Op) string {
	from, to := o.inodes[0], o.inodes[1]
	switch {
	case op.keepsNames() && from.before != from.after:
		return fmt.Sprintf("inode of %q: was %#x, is %#x", op.Path, from.before, from.after)
	case op.Kind == Rename && o.result == "" && op.Path != op.To && from.before != to.after:
		return fmt.Sprintf("inode of %q: was %#x, is %#x at %q", op.Path, from.before, to.after, op.To)
	case op.Kind == Link && o.result == "" && op.Flags == 0 && (from.before != from.after || from.before != to.after):
		return fmt.Sprintf("inode of %q: was %#x, is %#x, and %#x at %q", op.Path, from.before, from.after, to.after, op.To)
	}
	return ""
}

// remount mounts both again, and compares mica's inode numbers with those before.
func (p *pair) remount() (string, error) {
	before, diff, err := p.trees()
	if err != nil || diff != "" {
		return diff, err
	}
	_, got, err := p.both(Op{Kind: Remount})
	if err != nil {
		return "", err
	}
	if got.err != nil {
		return got.err.Error(), nil
	}
	after, diff, err := p.trees()
	if err != nil || diff != "" {
		return diff, err
	}
	for name, n := range before.got {
		if after.got[name].ino != n.ino {
			return fmt.Sprintf("inode of %q: was %#x, is %#x after the remount", name, n.ino, after.got[name].ino), nil
		}
	}
	return "", nil
}

type trees struct{ want, got tree }

// trees reads both trees and says how they differ.
func (p *pair) trees() (trees, string, error) {
	want, got, err := p.both(Op{Kind: snapshot})
	if err != nil {
		return trees{}, "", err
	}
	if got.err != nil {
		return trees{}, "tree: " + got.err.Error(), nil
	}
	return trees{want.tree, got.tree}, want.tree.diff(got.tree), nil
}

// digest is all of the lower layers as text.
func (b *bench) digest() (string, error) {
	var text strings.Builder
	for i := range b.layers {
		t, err := treepkg.Read(b.layer(i), nil)
		if err != nil {
			return "", err
		}
		for _, name := range slices.Sorted(maps.Keys(t)) {
			fmt.Fprintf(&text, "%q %+v\n", name, t[name])
		}
	}
	return text.String(), nil
}
