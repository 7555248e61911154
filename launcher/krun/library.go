package krun

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/ebitengine/purego"
)

// ErrNoLibrary means that libkrun cannot be loaded.
var ErrNoLibrary = errors.New("no libkrun.so.1")

// since is the oldest libkrun that is known to have all of library.
const since = "1.17.4"

// A library is libkrun, loaded. The fields are functions of libkrun.h; what each returns is 0, or an identifier, or a
// negative errno. Strings are copied by libkrun before it returns.
type library struct {
	initLog                func(target int32, level, style, options uint32) int32
	createCtx              func() int32
	setVMConfig            func(ctx uint32, cpus uint8, mebibytes uint32) int32
	setKernel              func(ctx uint32, path string, format uint32, initrd *byte, cmdline string) int32
	addVirtiofs            func(ctx uint32, tag, folder string) int32
	disableImplicitConsole func(ctx uint32) int32
	disableImplicitVsock   func(ctx uint32) int32
	addConsoleDefault      func(ctx uint32, in, out, err int32) int32
	addConsoleMultiport    func(ctx uint32) int32
	addConsolePort         func(ctx, console uint32, name string, in, out int32) int32
	startEnter             func(ctx uint32) int32
}

// A symbol is a function's name in the library, and the field that it goes to.
type symbol struct {
	name  string
	field any
}

func (l *library) symbols() []symbol {
	return []symbol{
		{"krun_init_log", &l.initLog},
		{"krun_create_ctx", &l.createCtx},
		{"krun_set_vm_config", &l.setVMConfig},
		{"krun_set_kernel", &l.setKernel},
		{"krun_add_virtiofs", &l.addVirtiofs},
		{"krun_disable_implicit_console", &l.disableImplicitConsole},
		{"krun_disable_implicit_vsock", &l.disableImplicitVsock},
		{"krun_add_virtio_console_default", &l.addConsoleDefault},
		{"krun_add_virtio_console_multiport", &l.addConsoleMultiport},
		{"krun_add_console_port_inout", &l.addConsolePort},
		{"krun_start_enter", &l.startEnter},
	}
}

// libraryPath is what dlopen gets: a path, or a name that the dynamic loader searches for.
func libraryPath() string {
	if path := os.Getenv("MICA_LIBKRUN"); path != "" {
		return path
	}
	return "libkrun.so.1"
}

// load opens the library at path and finds every function in it. The library stays loaded for good: it has threads and handlers of its own.
func load(path string) (*library, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("%w: libkrun is used on amd64 only, and this is %s", ErrNoLibrary, runtime.GOARCH)
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLibrary, err)
	}
	var l library
	for _, s := range l.symbols() {
		address, err := purego.Dlsym(handle, s.name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s lacks %s: version %s is known to have it", ErrNoLibrary, path, s.name, since)
		}
		purego.RegisterFunc(s.field, address)
	}
	return &l, nil
}

// check gives what a libkrun function returned, or the error that it stands for.
func check(function string, result int32) (uint32, error) {
	if result < 0 {
		return 0, fmt.Errorf("%s: %w", function, syscall.Errno(-result))
	}
	return uint32(result), nil
}
