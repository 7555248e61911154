package spec

import _ "embed"

// Template is the commented mica.toml that mica init writes: every key, what it does, and an example that loads.
//
//go:embed mica.toml
var Template string
