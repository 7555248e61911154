package fusefs

// Config is all that a union is made of.
type Config struct {
	Layers    []Layer          // bottom to top
	Synthetic []SyntheticEntry // between the layers and the upper; SetSynthetic replaces it
	Upper     *Upper           // nil: the union is read-only

	// RealOwners is Upper.RealOwners for the folders of Layers, and so for a union without an upper.
	RealOwners bool

	// Remembered is about how many bytes may be remembered of what guests have looked up, made and listed; 0 is DefaultRemembered.
	Remembered int64
}

// A Layer is one lower folder.
type Layer struct {
	Dir   string // the contents: a plain folder
	Index string // a file of layers/index that holds the layer's true metadata; "" when the folder itself does
}

// An Upper is the writable layer.
type Upper struct {
	Dir   string // in kernel overlayfs's userxattr form
	Work  string // same filesystem as Dir; "" for a volume
	Limit uint64 // bytes it may take; 0 is no limit

	// RealOwners keeps owner, mode and type in the files themselves: mica overlay, whose upper container storage reads.
	RealOwners bool
	// UnseenOwners lets a file that cannot have its owner have another: every client's View squashes owners.
	UnseenOwners bool
	// Volatile makes nothing durable: who loses power loses the upper.
	Volatile bool
	// NoRedirect answers EXDEV to a rename of a lower folder, and copies files whole.
	NoRedirect bool
	// Shared means that others may change Dir while it is served: a volume. Nothing is believed for longer than a second.
	Shared bool
}

// A SyntheticEntry is one file or folder that no layer holds.
type SyntheticEntry struct {
	Path      string // absolute, clean
	Mode      uint32 // S_IFREG, S_IFDIR or S_IFLNK, and permissions
	Data      []byte // contents, or the target of a symbolic link
	IfMissing bool   // gives way to what a layer has at Path
}
