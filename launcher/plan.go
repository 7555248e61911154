package launcher

// A Plan is one run, decided: pure data that mica run --dry-run prints as JSON and that Run carries out. Secrets are in it; Redacted is what may be shown.
type Plan struct {
	Name      string `json:"name"`              // of the sandbox; of a throw-away one, a generated name
	Project   string `json:"project,omitempty"` // the folder of mica.toml; "" for a throw-away sandbox
	Config    string `json:"config,omitempty"`  // the path of mica.toml; "" for a throw-away sandbox
	ThrowAway bool   `json:"throw_away"`

	Image    Image    `json:"image"`
	ReadOnly bool     `json:"read_only"`
	Upper    string   `json:"upper,omitempty"` // folder that holds upper/, work/, lock and origin; "" when read-only or throw-away
	Disk     uint64   `json:"disk,omitempty"`  // bytes that the upper may take; 0 is no limit
	Scripts  []Script `json:"scripts,omitempty"`
	Shell    string   `json:"shell"`
	Volumes  []Volume `json:"volumes,omitempty"`

	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memory_mib"`
	VMM       string `json:"vmm"`       // auto, krun or qemu as asked; Run resolves auto
	Transport string `json:"transport"` // auto, vhost-user, virtiofsd or krun as asked
	Kernel    string `json:"kernel,omitempty"`

	Args     []string `json:"args"`
	Env      []EnvVar `json:"env"`
	Dir      string   `json:"dir"`
	User     string   `json:"user,omitempty"`
	Hostname string   `json:"hostname"`

	Reset bool `json:"-"` // begin with an empty upper
	Quiet bool `json:"-"`
	Debug bool `json:"-"`
}

// An Image is what the root is made of.
type Image struct {
	Reference string  `json:"reference"`
	Digest    string  `json:"digest,omitempty"` // of the manifest; "" for a folder
	Layers    []Layer `json:"layers"`           // bottom to top
}

// A Layer is one folder of the root. Index is "" for a folder that is its own description.
type Layer struct {
	Dir   string `json:"dir"`
	Index string `json:"index,omitempty"`
}

// A Script is one file under /.sandbox/scripts: its bytes as the guest reads them.
type Script struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A Volume is one host folder in the guest.
type Volume struct {
	Host     string `json:"host"`  // absolute
	Guest    string `json:"guest"` // absolute
	ReadOnly bool   `json:"read_only,omitempty"`
}

// An EnvVar is one variable. Secret ones came from a file.
type EnvVar struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Secret bool   `json:"secret,omitempty"`
}
