package spec

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits of what a sandbox may ask for.
const (
	MaxCPUs      = 64
	MinMemoryMiB = 128
	MaxVolumes   = 64
	maxSizeMiB   = 1 << 30 // a PiB: more is a mistake in writing
)

// quote shows a value in a message: in quotes, on one line, and not for ever.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:77]) + "…"
	}
	return strconv.Quote(s)
}

// ParseCPUs reads a number of virtual CPUs.
func ParseCPUs(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%s is not a whole number: write a number from 1 to %d", quote(s), MaxCPUs)
	}
	if n < 1 || n > MaxCPUs {
		return 0, fmt.Errorf("%d is out of range: write a number from 1 to %d", n, MaxCPUs)
	}
	return n, nil
}

// ParseMemory reads an amount of memory, in MiB: a number of MiB, or one with a unit.
func ParseMemory(s string) (int, error) {
	mib, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	if mib < MinMemoryMiB {
		return 0, fmt.Errorf("%s is too little: write %dMiB or more", quote(s), MinMemoryMiB)
	}
	return mib, nil
}

// ParseDisk reads an amount of disk space, in MiB.
func ParseDisk(s string) (int, error) {
	mib, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	if mib < 1 {
		return 0, fmt.Errorf("%s is too little: write 1MiB or more", quote(s))
	}
	return mib, nil
}

// parseSize reads N, NMiB, NGiB, NTiB, and m, g, t for them, as MiB. Decimal units are refused rather than guessed at.
func parseSize(s string) (int, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil && errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s is too much: the limit is 1024TiB", quote(s))
	}
	shift, known := map[string]uint{"": 0, "m": 0, "mib": 0, "g": 10, "gib": 10, "t": 20, "tib": 20}[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	if err != nil || !known {
		return 0, fmt.Errorf(`%s is not a size: write a number of MiB, or one with a unit like "512MiB" or "2GiB"`, quote(s))
	}
	if n > maxSizeMiB>>shift {
		return 0, fmt.Errorf("%s is too much: the limit is 1024TiB", quote(s))
	}
	return int(n << shift), nil
}

// ParseEnv reads KEY=VALUE: the first = divides them, the key is not empty.
func ParseEnv(s string) (EnvVar, error) {
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		return EnvVar{}, fmt.Errorf("%s is not KEY=VALUE: write an = after the name", quote(s))
	}
	if k == "" {
		return EnvVar{}, fmt.Errorf("%s has no name: write KEY=VALUE", quote(s))
	}
	if strings.ContainsRune(s, 0) {
		return EnvVar{}, fmt.Errorf("%s has a NUL byte: remove it", quote(k))
	}
	return EnvVar{Key: k, Value: v}, nil
}

// ParseVolume reads HOST:GUEST, HOST:GUEST:ro, PATH or PATH:ro. A lone PATH is the same on both sides: its Guest is "", for the caller to
// fill in, who knows what a relative one is relative to.
func ParseVolume(s string) (Volume, error) {
	var v Volume
	rest := s
	if cut, ok := strings.CutSuffix(rest, ":ro"); ok {
		rest, v.ReadOnly = cut, true
	} else if cut, ok := strings.CutSuffix(rest, ":rw"); ok {
		rest = cut
	}
	host, guest, two := strings.Cut(rest, ":")
	v.Host = host
	switch {
	case host == "" || strings.ContainsRune(s, 0) || two && guest == "":
		return v, fmt.Errorf("%s is not a volume: write HOST:GUEST, HOST:GUEST:ro or PATH", quote(s))
	case !two:
		return v, nil
	case strings.Contains(guest, ":"):
		return v, fmt.Errorf("%s is not a volume: after HOST:GUEST only :ro may follow", quote(s))
	case !path.IsAbs(guest):
		return v, fmt.Errorf("%s is not a volume: the guest's path %s does not start with /", quote(s), quote(guest))
	}
	v.Guest = path.Clean(guest)
	return v, nil
}

// Resolve returns v with the real path of its host folder, which must exist; a relative one is relative to base.
func (v Volume) Resolve(base string) (Volume, error) {
	host := v.Host
	if !filepath.IsAbs(host) {
		host = filepath.Join(base, host)
	}
	host = filepath.Clean(host)
	if v.Guest == "" {
		v.Guest = host
	}
	info, err := os.Stat(host)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return v, fmt.Errorf("no folder %s on the host: create it, or remove the volume", host)
	case err != nil:
		return v, fmt.Errorf("look at the host's folder: %w", err)
	case !info.IsDir():
		return v, fmt.Errorf("%s on the host is not a folder: name the folder it is in", host)
	}
	if v.Host, err = filepath.EvalSymlinks(host); err != nil {
		return v, fmt.Errorf("look at the host's folder: %w", err)
	}
	return v, nil
}

// reserved are the guest's paths that belong to the guest's kernel, or to mica.
var reserved = []string{"/proc", "/sys", "/dev", "/.sandbox"}

// CheckOverlap finds a guest path that lies in another one, or in one that a volume may not take. More than MaxVolumes are an error too.
func CheckOverlap(volumes []Volume) error {
	if len(volumes) > MaxVolumes {
		return fmt.Errorf("%d volumes are too many: the limit is %d, so mount a folder that holds several", len(volumes), MaxVolumes)
	}
	for i, v := range volumes {
		if v.Guest == "/" {
			return errors.New(`"/" in the guest is the image's: mount the volume in a folder below it`)
		}
		for _, r := range reserved {
			if within(v.Guest, r) {
				return fmt.Errorf("%s in the guest is not a volume's to take: choose a path outside %s", quote(v.Guest), r)
			}
		}
		for _, other := range volumes[:i] {
			if v.Guest == other.Guest {
				return fmt.Errorf("%s in the guest is taken by %s already: choose another path", quote(v.Guest), quote(other.Host))
			}
			if within(v.Guest, other.Guest) || within(other.Guest, v.Guest) {
				return fmt.Errorf("%s in the guest overlaps %s: choose paths of which none lies in the other", quote(v.Guest), quote(other.Guest))
			}
		}
	}
	return nil
}

func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// CheckPort checks HOST:GUEST or PORT.
func CheckPort(s string) error {
	host, guest, two := strings.Cut(s, ":")
	if !two {
		guest = host
	}
	for _, p := range []string{host, guest} {
		if n, err := strconv.ParseUint(p, 10, 32); err != nil || n < 1 || n > math.MaxUint16 {
			return fmt.Errorf("%s is not a port: write HOST:GUEST or PORT, numbers from 1 to 65535", quote(s))
		}
	}
	return nil
}

// CheckName checks the name of a sandbox: it names folders, and is a hostname.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 63
	for i, c := range []byte(name) {
		first := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = ok && (first || i > 0 && (c == '_' || c == '.' || c == '-'))
	}
	if !ok {
		return fmt.Errorf("%s is not a name for a sandbox: write at most 63 of a-z, 0-9, _, . and -, and start with a letter or digit", quote(name))
	}
	return nil
}

// CheckScriptName checks that name is one component of a path.
func CheckScriptName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s is not a name for a script: write one that can be a file's, without /", quote(name))
	}
	return nil
}

// ParseWorkdir reads an absolute path in the guest.
func ParseWorkdir(s string) (string, error) {
	if !path.IsAbs(s) || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%s is not an absolute path: start it with /", quote(s))
	}
	return path.Clean(s), nil
}

// ParseUser reads NAME, UID, NAME:GROUP or UID:GID, which the guest looks up.
func ParseUser(s string) (string, error) {
	user, group, two := strings.Cut(s, ":")
	if user == "" || two && group == "" || strings.ContainsAny(group, ":") || strings.ContainsAny(s, " \t\r\n\x00/") {
		return "", fmt.Errorf("%s is not a user: write NAME, UID, NAME:GROUP or UID:GID", quote(s))
	}
	return s, nil
}

// ParseVMM reads the name of a virtual machine monitor.
func ParseVMM(s string) (string, error) { return oneOf(s, "auto", "krun", "qemu") }

// ParseTransport reads the name of a way for the filesystem to reach the guest.
func ParseTransport(s string) (string, error) {
	return oneOf(s, "auto", "vhost-user", "virtiofsd", "krun")
}

func oneOf(s string, known ...string) (string, error) {
	for _, k := range known {
		if s == k {
			return s, nil
		}
	}
	last := len(known) - 1
	return "", fmt.Errorf("%s is not known: write %s or %s", quote(s), strings.Join(known[:last], ", "), known[last])
}

// ParseImage checks that s can be an image reference at all; what it names is for the store to find.
func ParseImage(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t\r\n\x00") {
		return "", fmt.Errorf("%s is not an image: write a reference, oci:DIR[:TAG], docker-archive:FILE or a folder that starts with ./ or /", quote(s))
	}
	return s, nil
}

func parsePath(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%s is not a path: write one, or remove the key", quote(s))
	}
	return s, nil
}

func parseShell(s string) (string, error) {
	if !path.IsAbs(s) || strings.ContainsAny(s, "\r\n\x00") {
		return "", fmt.Errorf("%s is not a shell: write its absolute path in the guest", quote(s))
	}
	return s, nil
}

func parseArgument(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%s has a NUL byte: remove it", quote(s))
	}
	return s, nil
}

func parseHostname(s string) (string, error) {
	ok := s != "" && len(s) <= 63 && s[0] != '-' && s[0] != '.'
	for _, c := range []byte(s) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return "", fmt.Errorf("%s is not a hostname: write at most 63 letters, digits, . and -", quote(s))
	}
	return s, nil
}
