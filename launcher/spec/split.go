package spec

import (
	"errors"
	"fmt"
	"strings"
)

// Split divides a command into words as a shell does, with quotes and backslashes and nothing else: no variable, no wildcard.
func Split(s string) ([]string, error) {
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("%s has a NUL byte: remove it", quote(s))
	}
	var words []string
	var word strings.Builder
	started := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
			continue
		case '\'', '"':
			n, err := quoted(&word, s[i:])
			if err != nil {
				return nil, fmt.Errorf("%s %w", quote(s), err)
			}
			i += n
		case '\\':
			if i++; i == len(s) {
				return nil, fmt.Errorf("%s ends in a backslash: write what it stands before, or remove it", quote(s))
			}
			word.WriteByte(s[i])
		default:
			word.WriteByte(c)
		}
		started = true
	}
	if started {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%s holds no command: write the program and its arguments, or remove the key", quote(s))
	}
	return words, nil
}

// quoted adds the quoted text that s starts with to word, and returns where in s its closing quote is.
func quoted(word *strings.Builder, s string) (int, error) {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i, nil
		case s[i] == '\\' && s[0] == '"' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
		}
		word.WriteByte(s[i])
	}
	return 0, errors.New("has a quote that is not closed: close it")
}
