package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Rename moves a file or folder, with RENAME_NOREPLACE or RENAME_EXCHANGE.
func (c *Connection) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return c.changeName(in.NodeId, oldName, func(from *inode) error {
		to, err := c.node(in.Newdir)
		if err != nil {
			return err
		}
		r := rename{fs: c.fs, from: from, to: to, oldName: oldName, newName: newName, flags: in.Flags}
		return statusError(c.changeName(in.Newdir, newName, func(*inode) error { return r.run() }))
	})
}

// A rename is one request, and what it found under the locks.
type rename struct {
	fs               *FS
	from, to         *inode
	oldName, newName string
	flags            uint32

	source, target           *inode // referenced; target may be nil
	belowSource, belowTarget []lowerNode
	targetEntry              upperEntry
}

func (r *rename) run() error {
	const noReplace, exchange = unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE
	switch r.flags {
	case 0, noReplace, exchange:
	default:
		return unix.EINVAL
	}
	for _, d := range []*inode{r.from, r.to} {
		if err := d.toUpper(metadataOnly); err != nil {
			return err
		}
	}
	for {
		again, err := r.try()
		if again == nil {
			return err
		}
		defer r.fs.unref(again, 1) // not before the end: it remembers what was done
		if err = again.toUpper(metadataOnly); err == nil && again.isDir() {
			err = again.groupsToUpper()
		}
		if err != nil {
			return err
		}
	}
}

// try renames, or returns the inode, with a reference, that has to be in the upper first.
func (r *rename) try() (*inode, error) {
	r.fs.tree.Lock()
	defer r.fs.tree.Unlock()
	// The tree is ours alone: the folders' own locks are not needed but for those who hold no tree.
	defer r.drop()
	if err := r.find(); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	exchange := r.flags == unix.RENAME_EXCHANGE
	for _, n := range []*inode{r.source, r.target} {
		if n == nil || n == r.target && !exchange && !n.hasLowerLinks() {
			continue
		}
		if !n.inUpper() || n.mayHoldGroups() {
			r.fs.table.ref(n)
			return n, nil
		}
	}
	if exchange {
		return nil, r.exchange()
	}
	return nil, r.move()
}

func (r *rename) drop() {
	for _, n := range []*inode{r.source, r.target} {
		if n != nil {
			r.fs.unref(n, 1)
		}
	}
	r.source, r.target = nil, nil
}

func (r *rename) find() (err error) {
	if r.source, err = r.fs.lookupLocked(r.from, r.oldName); err != nil {
		return err
	}
	r.target, err = r.fs.lookupLocked(r.to, r.newName)
	if err != nil && err != unix.ENOENT {
		return err
	}
	if r.belowSource, err = r.from.peekLower(r.oldName); err != nil {
		return err
	}
	if r.belowTarget, err = r.to.peekLower(r.newName); err != nil {
		return err
	}
	r.targetEntry, err = r.to.peekUpper(r.newName)
	return err
}

func (r *rename) check() error {
	exchange := r.flags == unix.RENAME_EXCHANGE
	switch {
	case r.to.isGone() || r.from.isGone():
		return unix.ENOENT
	case r.target == nil && exchange:
		return unix.ENOENT
	case r.target != nil && r.flags == unix.RENAME_NOREPLACE:
		return unix.EEXIST
	case r.source.isSandbox() || r.target != nil && r.target.isSandbox():
		return unix.EROFS
	case r.source.isDir() && r.source.contains(r.to):
		return unix.EINVAL
	case r.target != nil && r.target.isDir() && r.target.contains(r.from):
		if exchange {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	if r.fs.upper.cfg.NoRedirect {
		for _, n := range []*inode{r.source, r.target} {
			if n != nil && n.isDir() && len(n.lowers) > 0 && (n == r.source || exchange) {
				return unix.EXDEV
			}
		}
	}
	if r.target == nil || exchange || r.target == r.source {
		return nil
	}
	switch {
	case r.source.isDir() && !r.target.isDir():
		return unix.ENOTDIR
	case !r.source.isDir() && r.target.isDir():
		return unix.EISDIR
	case r.target.isDir():
		return r.target.checkEmpty()
	}
	return nil
}

// contains reports whether d is n or in it. The caller holds the tree for writing.
func (n *inode) contains(d *inode) bool {
	for d != nil {
		if d == n {
			return true
		}
		d.mu.RLock()
		var up *inode
		if len(d.places) > 0 {
			up = d.places[0].parent
		}
		d.mu.RUnlock()
		d = up
	}
	return false
}

func (r *rename) folders() (from, to spot, err error) {
	a, err := r.from.folderFD()
	if err != nil {
		return from, to, err
	}
	b, err := r.to.folderFD()
	if err != nil {
		a.release()
		return from, to, err
	}
	return spot{dir: a, name: r.oldName}, spot{dir: b, name: r.newName}, nil
}

func (r *rename) move() error {
	if r.source == r.target {
		return nil // two names of one file: POSIX has nothing happen
	}
	from, to, err := r.folders()
	if err != nil {
		return err
	}
	defer from.release()
	defer to.release()
	if err := r.source.readyToMove(from, len(r.belowTarget) > 0); err != nil {
		return err
	}
	var keep *descriptor
	last := false
	switch {
	case r.target == nil:
	case r.target.isDir():
		keep = r.target.keepFolder()
	default:
		keep, last = r.fs.keepOrphan(r.target, to)
	}
	if err := r.moveHost(from, to); err != nil {
		if keep != nil {
			keep.release()
		}
		return err
	}
	r.forgetTarget(keep, last)
	r.source.moved(place{r.from, r.oldName}, place{r.to, r.newName})
	r.from.dir.unnote(r.oldName)
	r.to.dir.note(r.newName, r.source)
	if r.source.isDir() {
		r.fs.refreshSynthetic()
	}
	return nil
}

// readyToMove marks a folder before it moves: its lower parts stay its own, and nothing below shows in it at the new place.
func (n *inode) readyToMove(s spot, covers bool) error {
	if !n.isDir() {
		return nil
	}
	if len(n.lowers) > 0 && !n.dir.opaque {
		if _, synthetic := n.lowers[0].layer.(*syntheticLower); synthetic {
			return unix.EXDEV
		}
		return n.setRedirect(s)
	}
	if covers {
		return n.fs.upper.setOpaque(s)
	}
	return nil
}

// moveHost renames in the upper, and leaves a whiteout where something below would show.
func (r *rename) moveHost(from, to spot) error {
	u := r.fs.upper
	whiteout := len(r.belowSource) > 0
	inWay := r.targetEntry.state
	if r.target != nil && r.target.isDir() && r.target.inUpper() {
		if err := r.target.dropWhiteouts(); err != nil {
			return err
		}
	}
	switch {
	case inWay == hidden && u.hasWhPrefix(to):
		if err := u.renameLeaving(from, to, whiteout); err != nil {
			return err
		}
		// What is there wins over the whiteout beside it, so it matters little whether that goes.
		_ = unix.Unlinkat(to.dir.fd, whPrefix+to.name, 0)
		return nil
	case inWay == hidden && r.source.isDir():
		return r.swapWithWhiteout(from, to, whiteout)
	}
	return u.renameLeaving(from, to, whiteout)
}

// renameLeaving renames a host file, and leaves a whiteout where it was if that is asked for.
func (u *upper) renameLeaving(from, to spot, whiteout bool) error {
	if !whiteout {
		return unix.Renameat2(from.dir.fd, from.name, to.dir.fd, to.name, 0)
	}
	err := unix.Renameat2(from.dir.fd, from.name, to.dir.fd, to.name, unix.RENAME_WHITEOUT)
	if err != unix.EINVAL && err != unix.EPERM {
		return err
	}
	// The filesystem cannot do both at once.
	name, err := u.makeWhiteout()
	if err != nil {
		return err
	}
	if err := unix.Renameat(from.dir.fd, from.name, to.dir.fd, to.name); err != nil {
		u.discard(name)
		return err
	}
	if err := unix.Renameat(u.work.fd, name, from.dir.fd, from.name); err != nil {
		u.discard(name)
		_ = unix.Renameat(to.dir.fd, to.name, from.dir.fd, from.name)
		return err
	}
	return nil
}

// swapWithWhiteout moves a folder to where a whiteout is: they change places, and the whiteout stays where it is needed.
func (r *rename) swapWithWhiteout(from, to spot, keep bool) error {
	if err := unix.Renameat2(from.dir.fd, from.name, to.dir.fd, to.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	if !keep {
		_ = unix.Unlinkat(from.dir.fd, from.name, 0) // where nothing is below it, it hides nothing
	}
	return nil
}

// dropWhiteouts takes the whiteouts out of a folder that shows nothing, so that another can be renamed onto it. It becomes
// opaque first, so that it shows nothing at any moment. The caller holds the whole tree.
func (n *inode) dropWhiteouts() error {
	d, err := n.folderFD()
	if err != nil {
		return err
	}
	defer d.release()
	var names []string
	err = readFolder(spot{dir: d}, func(name string, _ uint64, _ uint32) error {
		names = append(names, name)
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	if err := n.fs.upper.setOpaque(spot{dir: d}); err != nil {
		return err
	}
	n.mu.Lock()
	n.dir.opaque, n.lowers = true, nil
	n.mu.Unlock()
	for _, name := range names {
		if err := removeTree(d.fd, name); err != nil {
			return err
		}
	}
	return nil
}

// forgetTarget records that what was at the new name is gone.
func (r *rename) forgetTarget(keep *descriptor, last bool) {
	n := r.target
	if n == nil {
		return
	}
	if !n.isDir() {
		n.removed(r.to, r.newName, keep, last)
		return
	}
	n.folderRemoved(keep)
	n.dropPlace(r.to, r.newName)
}

// moved records that n is at another place.
func (n *inode) moved(from, to place) {
	n.addPlace(to.parent, to.name)
	if !n.isDir() {
		n.dropPlace(from.parent, from.name)
	}
	n.mu.Lock()
	n.names++
	if n.isDir() {
		n.dir.moved = true
	}
	n.mu.Unlock()
}

func (r *rename) exchange() error {
	if r.source == r.target {
		return nil
	}
	from, to, err := r.folders()
	if err != nil {
		return err
	}
	defer from.release()
	defer to.release()
	if err := r.source.readyToMove(from, len(r.belowTarget) > 0); err != nil {
		return err
	}
	if err := r.target.readyToMove(to, len(r.belowSource) > 0); err != nil {
		return err
	}
	if err := unix.Renameat2(from.dir.fd, from.name, to.dir.fd, to.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	a, b := place{r.from, r.oldName}, place{r.to, r.newName}
	r.source.moved(a, b)
	r.target.moved(b, a)
	r.to.dir.note(r.newName, r.source)
	r.from.dir.note(r.oldName, r.target)
	r.fs.refreshSynthetic()
	return nil
}
