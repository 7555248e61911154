package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ReadEnvFile reads variables, one KEY=VALUE a line, as docker's --env-file does: the value is everything after the first =, blank
// lines and lines that start with # are left out. All of them are secret, so no message shows what a line holds.
func ReadEnvFile(path string) ([]EnvVar, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no file %s: create it, or name another", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read env file: %w", err)
	}
	var vars []EnvVar
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSuffix(line, "\r")
		text := strings.TrimLeft(line, " \t")
		if text == "" || text[0] == '#' {
			continue
		}
		v, err := ParseEnv(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: the line is not KEY=VALUE: mend it, or start it with #", path, i+1)
		}
		v.Secret = true
		vars = append(vars, v)
	}
	return vars, nil
}
