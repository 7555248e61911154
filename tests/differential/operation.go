package differential

import (
	"fmt"
	"reflect"
	"strings"
)

// A Kind is what an operation does.
type Kind string

// The kinds, by the system call they are.
const (
	Open        Kind = "Open" // into Slot, with Flags and Mode
	Close       Kind = "Close"
	Pread       Kind = "Pread"
	Pwrite      Kind = "Pwrite"
	Read        Kind = "Read"
	Write       Kind = "Write"
	Seek        Kind = "Seek" // Flags is the whence
	Ftruncate   Kind = "Ftruncate"
	Truncate    Kind = "Truncate"
	Fallocate   Kind = "Fallocate" // Flags is the mode
	Fsync       Kind = "Fsync"
	CopyRange   Kind = "CopyRange" // from Slot at Off to Slot2 at Off2
	Fstat       Kind = "Fstat"
	Fchmod      Kind = "Fchmod"
	Fchown      Kind = "Fchown"
	LinkSlot    Kind = "LinkSlot" // gives the open file the name To
	Mkdir       Kind = "Mkdir"
	Symlink     Kind = "Symlink" // at Path, to To
	Link        Kind = "Link"
	Mknod       Kind = "Mknod"
	Unlink      Kind = "Unlink"
	Rmdir       Kind = "Rmdir"
	Rename      Kind = "Rename"
	Chmod       Kind = "Chmod"
	Chown       Kind = "Chown"
	Utimens     Kind = "Utimens" // Off and Len are the times' seconds
	SetXattr    Kind = "SetXattr"
	GetXattr    Kind = "GetXattr"
	ListXattr   Kind = "ListXattr"
	RemoveXattr Kind = "RemoveXattr"
	ReadDir     Kind = "ReadDir"
	Readlink    Kind = "Readlink"
	Stat        Kind = "Stat" // follows links
	Access      Kind = "Access"
	Remount     Kind = "Remount" // closes all slots before
)

// An Op is one operation. Which fields count depends on the kind.
type Op struct {
	Kind     Kind
	Path, To string
	Flags    int
	Mode     uint32
	Rdev     uint64
	UID, GID int
	Slot     int
	Slot2    int
	Off      int64
	Off2     int64
	Len      int64
	Seed     byte // of what is written
	Name     string
	Value    string
	As       int    // the user and group who does it; 0 is root
	Umask    uint32 // while it is done
}

// String is the operation as Go source, without the fields that are zero.
func (o Op) String() string { return fields(reflect.ValueOf(o)) }

// String is the file as Go source, without the fields that are zero.
func (f File) String() string { return fields(reflect.ValueOf(f)) }

func fields(v reflect.Value) string {
	var words []string
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case f.IsZero():
		case name == "Kind":
			words = append(words, "Kind: "+f.String())
		case name == "Mode":
			words = append(words, fmt.Sprintf("Mode: %#o", f.Uint()))
		case name == "Umask":
			words = append(words, fmt.Sprintf("Umask: %#o", f.Uint()))
		case name == "Flags":
			words = append(words, fmt.Sprintf("Flags: %#x", f.Int()))
		default:
			words = append(words, fmt.Sprintf("%s: %#v", name, f.Interface()))
		}
	}
	return "{" + strings.Join(words, ", ") + "}"
}

// usesSlot reports whether the operation is one on an open file.
func (o Op) usesSlot() bool {
	switch o.Kind {
	case Close, Pread, Pwrite, Read, Write, Seek, Ftruncate, Fallocate, Fsync, CopyRange, Fstat, Fchmod, Fchown, LinkSlot:
		return true
	}
	return false
}

// keepsNames reports whether the operation leaves the files at its paths where they are, so that their inode numbers stay.
func (o Op) keepsNames() bool {
	switch o.Kind {
	case Truncate, Chmod, Chown, Utimens, SetXattr, RemoveXattr, GetXattr, ListXattr, ReadDir, Readlink, Stat, Access:
		return true
	}
	return false
}
