package wire

// Names that host and guest share.
const (
	PortControl = "mica.control" // the virtio-console port of the framed protocol
	TagRoot     = "mica-root"    // the virtiofs tag of the root filesystem
	InitPath    = "/.sandbox/init"
)

// Boot is all that the guest has to know.
type Boot struct {
	Root    Mount
	Volumes []Mount // in mount order: parents first

	Args     []string // Args[0] is an absolute path, or a name to look up in PATH of Env
	Env      []string // KEY=VALUE
	Dir      string   // working directory, absolute
	User     string   // "", name, uid, name:group or uid:gid; looked up in the guest's /etc/passwd and group
	Hostname string
	Rlimits  []Rlimit

	TTY  bool // a pseudo-terminal in place of three pipes
	Rows uint16
	Cols uint16
}

// A Mount is one virtiofs share. Path is absolute; it is "/" for the root.
type Mount struct {
	Tag      string
	Path     string
	ReadOnly bool
}

// An Rlimit is one resource limit, by the number of setrlimit(2).
type Rlimit struct {
	Resource int
	Soft     uint64
	Hard     uint64
}

// Exit is the last frame from the guest: one of the fields says how the command ended.
type Exit struct {
	Code   int    // exit status, when Signal is 0; 126 and 127 as a shell has them when the command could not start, 125 when what it needs could not be made
	Signal int    // the signal that ended it
	Error  string // why the command never ran, one line; "" when it did
}
