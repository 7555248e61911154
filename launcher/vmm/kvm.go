package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// ErrNoVirtualization means that the processor does not show virtualization extensions.
var ErrNoVirtualization = errors.New("the processor shows neither vmx nor svm")

// CheckKVM says why KVM cannot run an ordinary guest here, or nil when it can. That /dev/kvm opens is not enough: on some
// nested hosts it does, but only for guests that are para-virtualized, and the tell is the processor's flags.
func CheckKVM() error {
	if runtime.GOARCH == "amd64" {
		info, err := os.Open("/proc/cpuinfo")
		if err != nil {
			return fmt.Errorf("check for virtualization: %w", err)
		}
		defer info.Close()
		if !hasVirtualization(info) {
			return ErrNoVirtualization
		}
	}
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return dev.Close()
}

// hasVirtualization reads the form of /proc/cpuinfo that x86 has.
func hasVirtualization(cpuinfo io.Reader) bool {
	lines := bufio.NewScanner(cpuinfo)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		flags := strings.Fields(value)
		return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
	}
	return false
}
