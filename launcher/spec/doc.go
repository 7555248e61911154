// Package spec reads mica.toml: it finds the file, checks every key and value of it, and reports each mistake with the line it is on and what would do.
// Load looks at the file alone; Sandbox.Resolve then looks at what the host has (folders, env files). The parsers of single values serve the command line too.
package spec
