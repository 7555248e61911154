package differential

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Mica differs from kernel overlayfs in these, and nothing else:
//
//   - Inode numbers: each union has its own. They are compared by what they say: which names are one file, and that a file keeps its number.
//   - Sizes and link counts of folders: overlayfs gives those of one of the merged folders.
//   - Link counts of a file some names of which are hidden by another layer: overlayfs goes on to count those, mica does not once it has copied
//     the file up.
//   - Link counts of open files: that of an unlinked lower file stays what it was in overlayfs, and is 0 in mica.
//   - Access and change times, birth times and block counts: they are those of the file that holds the data, copied up at another moment, and
//     the two unions do not copy up at the same operations. The time of access is compared where utimensat has just set it.
//   - Order of folders: overlayfs has that of the disk, mica a fixed one.
//   - What overlayfs itself refuses: a device 0:0 (its whiteout), RENAME_WHITEOUT. Mica keeps types out of the file and takes both.
//   - What the FUSE client refuses: FALLOC_FL_COLLAPSE_RANGE, INSERT_RANGE and UNSHARE_RANGE; what it does not send: a chown that changes neither
//     user nor group, which elsewhere drops setuid bits.
//   - Setgid of a file that its group may not execute, when somebody outside the group writes to it: overlayfs drops it, the FUSE client does
//     not tell who is in the group.
//   - Setgid of a file whose ACL somebody outside its group removes: overlayfs drops it, as when one is set; ext4 does not, nor does the FUSE client
//     tell.
//   - With passthrough, set-ID bits that a file gets while it is open: a write drops them in overlayfs; in mica the kernel, which leaves that to
//     the server, does not ask it.
//   - Reserved xattrs: overlayfs escapes trusted.overlay.*, mica refuses user.overlay.* and its own.
//
// The generator leaves out the last six and the hidden names, the descriptions of files (tree.go) the others. Five are an operation's:
//
//   - Time of modification of a file that is opened for writing after a change of its metadata alone: overlayfs copies its data up then, and
//     the copy's time is the file's. Mica puts the file's own back. setsTime finds it, and makes the two alike again.
//   - Time of modification of a folder out of which a rename has failed: overlayfs has ext4 put a whiteout there first, and take it away again.
//     touchesFolder finds it.
//   - Removal of an ACL that is not there: as on ext4 that is no error, but in overlayfs it is one while the file is in a layer.
//   - fchmod and fchown of an open file or folder of a layer whose last name is gone. Overlayfs looks for a place to copy it up to by the name
//     that it had: EEXIST where its own whiteout or another file is, ENOTDIR where a folder was, ENOENT or EIO where the parent is gone too. In
//     mica they work on a file, as POSIX has it, and are ENOENT on a folder. changesNameless finds it, and all files are closed.
//   - What SEEK_DATA and SEEK_HOLE find in room that fallocate has made: to ext4 it is data once it has been read, and the FUSE client reads ahead
//     elsewhere than overlayfs. seeksAnother finds it.

// removesNoACL reports whether only overlayfs says that there is no ACL.
func removesNoACL(op Op, want, got outcome) bool {
	return op.Kind == RemoveXattr && strings.HasPrefix(op.Name, "system.posix_acl_") && want.result == "ENODATA" && got.result == ""
}

// setsTime reports whether overlayfs has set the time of modification by no more than opening a file.
func setsTime(op Op, want, got outcome) bool {
	return op.Kind == Open && op.Flags&unix.O_ACCMODE != unix.O_RDONLY && op.Flags&unix.O_TRUNC == 0 && want.result == got.result &&
		want.mtime == "now" && got.mtime != "now"
}

// touchesFolder reports whether overlayfs has set the time of modification of the folder of Path, and failed.
func touchesFolder(op Op, want, got outcome) bool {
	return op.Kind == Rename && want.result != "" && want.result == got.result && want.touched[0] != got.touched[0] &&
		strings.Contains(want.touched[0], "mtime now")
}

// changesNameless reports whether overlayfs has found no place to copy a file without a name to.
func changesNameless(op Op, want, got outcome) bool {
	if op.Kind != Fchmod && op.Kind != Fchown || !got.nameless {
		return false
	}
	switch want.result {
	case "EEXIST", "ENOTDIR", "ENOENT", "EIO":
		return got.result == "" || got.result == "ENOENT"
	}
	return false
}

// seeksAnother reports whether the two sides have found data, or a hole, in different places.
func seeksAnother(op Op, want, got outcome) bool {
	return op.Kind == Seek && (op.Flags == unix.SEEK_DATA || op.Flags == unix.SEEK_HOLE) && want.result != got.result
}
