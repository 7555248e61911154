package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/launcher"
	"github.com/micavm/mica/launcher/kernel"
	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// examine looks at this machine. It starts nothing.
func examine() []finding {
	kvm := findKVM()
	return []finding{
		findFUSE(),
		findFuserMount(),
		findAllowOther(),
		kvm,
		findKrun(kvm.ok),
		findQEMU(),
		findKernel(context.Background()),
		findVirtiofsd("virtiofsd (C)", "/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd"),
		findVirtiofsd("virtiofsd (Rust)", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"),
		findLandlock(),
		findSpace(),
	}
}

func findFUSE() finding {
	f := finding{name: "FUSE device", need: needFUSE, why: "the root filesystem is served over it", mend: "modprobe fuse"}
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		f.detail = err.Error()
		if errors.Is(err, os.ErrPermission) {
			f.mend = "chmod a+rw /dev/fuse"
		}
		return f
	}
	dev.Close()
	f.ok, f.detail = true, "/dev/fuse"
	return f
}

func findFuserMount() finding {
	f := finding{name: "fusermount3", need: needMount, why: "an ordinary user mounts with it", mend: install("fuse3")}
	if os.Geteuid() == 0 {
		f.need = optional // root mounts by itself
	}
	for _, name := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			f.ok, f.detail = true, path
			return f
		}
	}
	f.detail = "not in PATH"
	return f
}

func findAllowOther() finding {
	f := finding{
		name: "user_allow_other",
		why:  "without it other users, root among them, cannot look into a mount of an ordinary user",
		mend: "echo user_allow_other >> /etc/fuse.conf",
	}
	if os.Geteuid() == 0 {
		f.ok, f.detail = true, "root needs no leave"
		return f
	}
	f.ok, f.detail = launcher.AllowOther(), "/etc/fuse.conf"
	if !f.ok {
		f.detail = "not in " + f.detail
	}
	return f
}

func findKVM() finding {
	f := finding{name: "KVM", why: "without it QEMU emulates the processor, about ten times slower, and libkrun does not run"}
	err := vmm.CheckKVM()
	switch {
	case err == nil:
		f.ok, f.detail = true, "/dev/kvm"
	case errors.Is(err, os.ErrPermission):
		f.detail, f.mend = err.Error(), "usermod -aG kvm "+userName()
	case errors.Is(err, os.ErrNotExist):
		f.detail, f.mend = err.Error(), "modprobe -a kvm_intel kvm_amd"
	default:
		f.detail = err.Error()
	}
	return f
}

func userName() string {
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	return "USER"
}

func findQEMU() finding {
	program := map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[runtime.GOARCH]
	f := finding{name: "QEMU", need: needVMM, detail: program + " is not in PATH", why: "it runs microVMs where libkrun cannot", mend: installQEMU()}
	if path, err := exec.LookPath(program); err == nil {
		f.ok, f.detail = true, path
	}
	return f
}

func findVirtiofsd(name string, paths ...string) finding {
	f := finding{name: name, detail: "not at " + strings.Join(paths, " or "), why: "only for --transport virtiofsd"}
	for _, path := range paths {
		if unix.Access(path, unix.X_OK) == nil {
			f.ok, f.detail = true, path
			return f
		}
	}
	return f
}

func findLandlock() finding {
	f := finding{name: "Landlock", why: "it confines mica and the monitor to their own files"}
	version, err := landlock.Version()
	if err != nil {
		f.detail = "runs are not confined: " + err.Error()
		return f
	}
	f.ok, f.detail = true, fmt.Sprintf("version %d", version)
	return f
}

// findSpace looks at the filesystem that images are unpacked to.
func findSpace() finding {
	const wanted = 1 << 30
	dir := dataDir()
	f := finding{name: "disk space", need: needImages, why: "images are unpacked to " + dir, mend: "make room there, or set XDG_DATA_HOME to another folder"}
	var stat unix.Statfs_t
	at := dir
	for unix.Statfs(at, &stat) != nil && at != "/" {
		at = filepath.Dir(at)
	}
	free := stat.Bavail * uint64(stat.Bsize)
	f.ok, f.detail = free >= wanted, fmt.Sprintf("%.1f GiB free in %s", float64(free)/(1<<30), at)
	return f
}

// install is the command that installs a package, by the package manager that is here.
func install(name string) string {
	for _, manager := range []struct{ program, command string }{
		{"apt-get", "apt-get install"},
		{"dnf", "dnf install"},
		{"zypper", "zypper install"},
		{"pacman", "pacman -S"},
		{"apk", "apk add"},
	} {
		if _, err := exec.LookPath(manager.program); err == nil {
			return manager.command + " " + name
		}
	}
	return "install the package " + name
}

func installQEMU() string {
	arm := runtime.GOARCH == "arm64"
	for program, names := range map[string][2]string{
		"apt-get": {"qemu-system-x86", "qemu-system-arm"},
		"dnf":     {"qemu-system-x86-core", "qemu-system-aarch64-core"},
		"zypper":  {"qemu-x86", "qemu-arm"},
		"pacman":  {"qemu-system-x86", "qemu-system-aarch64"},
		"apk":     {"qemu-system-x86_64", "qemu-system-aarch64"},
	} {
		if _, err := exec.LookPath(program); err == nil {
			if arm {
				return install(names[1])
			}
			return install(names[0])
		}
	}
	return "install QEMU"
}

func findKernel(ctx context.Context) finding {
	f := finding{name: "guest kernel", need: needKernel, why: "every guest boots it", mend: "make kernel"}
	found, err := kernel.Find(ctx, kernel.Search{DataDir: dataDir(), CacheDir: cacheDir()})
	if err != nil {
		f.detail = err.Error()
		return f
	}
	f.ok, f.detail = true, fmt.Sprintf("%s (%s)", found.Path, found.Source)
	if !found.Initramfs {
		f.detail += ", without initramfs support"
	}
	return f
}

// findKrun looks for the library; it runs nothing without KVM.
func findKrun(kvm bool) finding {
	f := finding{name: "libkrun", need: needVMM, why: "the first choice of monitor, where there is KVM", mend: install("libkrun")}
	if _, err := exec.LookPath("apt-get"); err == nil {
		f.mend = "" // Debian has no package of it; QEMU does
	}
	path := findLibrary("libkrun.so.1")
	switch {
	case path == "":
		f.detail = "libkrun.so.1 is not installed"
	case !kvm:
		f.detail, f.mend = path+", but it needs KVM", ""
	default:
		f.ok, f.detail = true, path
	}
	return f
}

// findLibrary looks where $MICA_LIBKRUN and the system keep libraries.
func findLibrary(name string) string {
	paths := []string{os.Getenv("MICA_LIBKRUN")}
	for _, pattern := range []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/usr/local/lib64", "/usr/local/lib"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	for _, path := range paths {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
