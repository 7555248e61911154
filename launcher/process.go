package launcher

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process is one process of this boot: the start time tells it from a later one that was given the same number.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // field 22 of /proc/PID/stat: clock ticks since boot
}

func findProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The second field, the program's name, may hold anything: count from its last parenthesis, which ends field 2.
	_, rest, ok := cutLast(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("parse /proc/%d/stat: %q", pid, stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	start, err := strconv.ParseUint(fields[22-3], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
	}
	return process{PID: pid, Start: start}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// alive says whether p runs: a zombie does not.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := findProcess(p.PID)
	return err == nil && now == p
}

// kill sends sig to p, and never to a process that was given p's number later. It is no error when p has ended.
func (p process) kill(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}
