package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
)

// overlayOptions is what the options of -o say.
type overlayOptions struct {
	lower       []string // the topmost first
	upper, work string   // "" for a read-only mount

	flags      uintptr // of mount(2)
	allowOther bool    // as root it is so anyway
	stored     bool    // xattr_permissions: owner, mode and type are in override_stat
	noACL      bool    // the kernel does not obey ACLs
	volatile   bool    // as noFsync, whatever else is asked for
	noFsync    bool    // nothing is made durable
	// passthrough lets the kernel read and write files of the upper itself.
	passthrough bool
	view        fusefs.View
	// squashToRoot shows root as the owner of all files: see shown.
	squashToRoot bool
	source       string // what the table of mounts shows
	context      string // options of SELinux, for the kernel
	debug        bool
}

// An overlayOption is one option that takes effect. It is given the value as it was written, and whether there was one.
type overlayOption func(o *overlayOptions, value string) error

var overlayOptionsByName = map[string]overlayOption{
	"lowerdir": func(o *overlayOptions, v string) (err error) { o.lower, err = lowerFolders(v); return err },
	"upperdir": func(o *overlayOptions, v string) (err error) { o.upper, err = optionFolder("upperdir", v); return err },
	"workdir":  func(o *overlayOptions, v string) (err error) { o.work, err = optionFolder("workdir", v); return err },

	"fsname":      func(o *overlayOptions, v string) error { o.source = unescapeOption(v); return nil },
	"allow_other": func(o *overlayOptions, _ string) error { o.allowOther = true; return nil },

	"xattr_permissions": (*overlayOptions).setXattrPermissions,

	"context": securityContext("context"), "fscontext": securityContext("fscontext"),
	"defcontext": securityContext("defcontext"), "rootcontext": securityContext("rootcontext"),

	"redirect_dir": oneOf("redirect_dir", "a folder of a layer that is renamed answers EXDEV, and its files are copied: give redirect_dir=off", "off", "nofollow"),
	"metacopy":     oneOf("metacopy", "files are copied whole: give metacopy=off", "off"),
	"nfs_export":   oneOf("nfs_export", "file handles cannot be exported: give nfs_export=off", "off"),

	"uidmapping":     mapUIDs,
	"gidmapping":     mapGIDs,
	"squash_to_uid":  squashUID,
	"squash_to_gid":  squashGID,
	"squash_to_root": func(o *overlayOptions, _ string) error { o.squashToRoot = true; return nil },

	"noxattrs":    setNoXattrs,
	"noacl":       func(o *overlayOptions, _ string) error { o.noACL = true; return nil },
	"volatile":    func(o *overlayOptions, _ string) error { o.volatile = true; return nil },
	"fsync":       (*overlayOptions).setFsync,
	"passthrough": func(o *overlayOptions, _ string) error { o.passthrough = true; return nil },
	"timeout":     (*overlayOptions).setTimeout,

	"plugins": func(_ *overlayOptions, v string) error {
		if v == "" {
			return nil
		}
		return fmt.Errorf("option plugins=%s is not supported: lower folders come from the file system only", v)
	},
}

// overlayFlags are the options that are flags of mount(2).
var overlayFlags = map[string]struct{ set, clear uintptr }{
	"ro": {unix.MS_RDONLY, 0}, "rw": {0, unix.MS_RDONLY},
	"nosuid": {unix.MS_NOSUID, 0}, "suid": {0, unix.MS_NOSUID},
	"nodev": {unix.MS_NODEV, 0}, "dev": {0, unix.MS_NODEV},
	"noexec": {unix.MS_NOEXEC, 0}, "exec": {0, unix.MS_NOEXEC},
	"noatime": {unix.MS_NOATIME, 0}, "atime": {0, unix.MS_NOATIME},
	"relatime": {unix.MS_RELATIME, unix.MS_NOATIME}, "strictatime": {unix.MS_STRICTATIME, unix.MS_NOATIME},
	"nodiratime": {unix.MS_NODIRATIME, 0}, "diratime": {0, unix.MS_NODIRATIME},
	"sync": {unix.MS_SYNCHRONOUS, 0}, "async": {0, unix.MS_SYNCHRONOUS}, "dirsync": {unix.MS_DIRSYNC, 0},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, 0},
	"defaults":    {0, unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_SYNCHRONOUS},
}

// needlessOptions change nothing here, for the reason that stands before each group.
var needlessOptions = []string{
	// It is always so.
	"default_permissions", "static_nlink", "fast_ino", "big_writes", "threaded", "norelatime", "nostrictatime", "lazytime", "nolazytime", "userxattr",
	// It makes fuse-overlayfs faster at a price; here it costs nothing to keep what it gives up.
	"writeback", "index", "xino", "uuid", "max_write", "max_read", "max_background",
	"congestion_threshold", "clone_fd", "entry_timeout", "attr_timeout", "negative_timeout", "max_idle_threads", "max_threads",
	// Nobody but root can look in without allow_other; and a guard unmounts when the server has ended.
	"allow_root", "auto_unmount", "subtype",
	// They are for mount(8) and who reads the table of file systems.
	"auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment", "silent", "loud", "mand", "nomand", "iversion",
}

// parseOverlayOptions reads the values of all -o, in order. With sloppy, an unknown option is ignored.
func parseOverlayOptions(lists []string, sloppy bool) (overlayOptions, error) {
	// As fuse-overlayfs has it; mount(8) says so if it is to be otherwise.
	o := overlayOptions{flags: unix.MS_NODEV | unix.MS_NOATIME}
	for _, list := range lists {
		for _, option := range splitEscaped(list, ',') {
			if err := o.set(option, sloppy); err != nil {
				return overlayOptions{}, err
			}
		}
	}
	return o, o.check()
}

func (o *overlayOptions) set(option string, sloppy bool) error {
	name, value, _ := strings.Cut(option, "=")
	if flag, ok := overlayFlags[name]; ok {
		o.flags = o.flags&^flag.clear | flag.set
		return nil
	}
	if set, ok := overlayOptionsByName[name]; ok {
		return set(o, value)
	}
	if name == "" || sloppy || slices.Contains(needlessOptions, name) || strings.HasPrefix(name, "x-") {
		return nil
	}
	return fmt.Errorf("unknown option %q: want lowerdir=, upperdir=, workdir=, or one of fuse-overlayfs or mount(8)", option)
}

func (o *overlayOptions) check() error {
	switch {
	case len(o.lower) == 0:
		return errors.New("no lowerdir: give -o lowerdir=A:B, the folders to show, the topmost first")
	case o.upper != "" && o.work == "" && !o.readOnly():
		return fmt.Errorf("upperdir=%s needs a workdir: give workdir=W, an empty folder on the same filesystem", o.upper)
	case o.upper == "" && o.work != "":
		return fmt.Errorf("workdir=%s is of no use without an upperdir: give upperdir=U, or no workdir for a read-only mount", o.work)
	}
	return nil
}

func (o *overlayOptions) readOnly() bool { return o.upper == "" || o.flags&unix.MS_RDONLY != 0 }

func (o *overlayOptions) setXattrPermissions(value string) error {
	switch value {
	case "0":
		o.stored = false
	case "1", "2":
		o.stored = true
	default:
		return fmt.Errorf("option xattr_permissions=%s: want 0 for owners and modes in the files themselves, 1 or 2 for user.containers.override_stat", value)
	}
	return nil
}

func oneOf(name, hint string, values ...string) overlayOption {
	return func(_ *overlayOptions, v string) error {
		if slices.Contains(values, v) {
			return nil
		}
		return fmt.Errorf("option %s=%s is not supported: %s", name, v, hint)
	}
}

// securityContext is passed on to the kernel; container storage gives it where SELinux is on.
func securityContext(name string) overlayOption {
	return func(o *overlayOptions, v string) error {
		o.context += "," + name + "=" + v
		return nil
	}
}

// lowerFolders splits the value of lowerdir.
func lowerFolders(value string) ([]string, error) {
	var dirs []string
	for _, part := range splitEscaped(value, ':') {
		dir, err := optionFolder("lowerdir", part)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// optionFolder is a folder of an option as an absolute path: the server does not stay in the folder that it was started in.
func optionFolder(option, value string) (string, error) {
	if value == "" {
		return "", fmt.Errorf("option %s= names no folder: give its path", option)
	}
	return filepath.Abs(unescapeOption(value))
}

// splitEscaped splits at each sep that no backslash precedes, and leaves the backslashes. A value that begins with a quotation mark ends with
// one: so are the contexts of SELinux given, which have commas.
func splitEscaped(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted && i > 0 && s[i-1] == '='
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unescapeOption takes the backslashes out.
func unescapeOption(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
