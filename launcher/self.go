package launcher

// The hidden commands: mica executes itself for what has to be a process of its own.
const (
	wordJanitor  = "__janitor"
	wordStage    = "__share"
	wordDetached = "__run"

	selfName = "mica"
	selfPath = "/proc/self/exe" // this very program, even when its file was replaced
)
