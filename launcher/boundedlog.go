package launcher

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"
)

// A boundedLog is a file that keeps the last of what is written to it: once it is half the limit long it becomes NAME.1, and a new
// one is begun. So a guest cannot fill the disk through its console.
type boundedLog struct {
	path string
	half int64

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte // the last maxTail bytes
}

const (
	logLimit = 1 << 20
	maxTail  = 4 << 10
)

// createLog begins a log of at most limit bytes at path, in place of an earlier one.
func createLog(path string, limit int64) (*boundedLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	l := &boundedLog{path: path, half: limit / 2}
	if err := os.Remove(path + ".1"); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if err := l.begin(); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return l, nil
}

func (l *boundedLog) begin() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return nil
}

// Write keeps p. It never fails for a full disk: the log is then shorter, and the guest goes on.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p[max(0, len(p)-maxTail):]...)
	l.tail = l.tail[max(0, len(l.tail)-maxTail):]
	for rest := p; len(rest) > 0 && l.file != nil; {
		n := int(min(int64(len(rest)), l.half-l.size))
		if n == 0 {
			l.rotate()
			continue
		}
		if _, err := l.file.Write(rest[:n]); err != nil {
			break
		}
		l.size += int64(n)
		rest = rest[n:]
	}
	return len(p), nil
}

func (l *boundedLog) rotate() {
	l.file.Close()
	l.file = nil
	if os.Rename(l.path, l.path+".1") == nil {
		_ = l.begin()
	}
}

// Close ends the log.
func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// last gives the last n lines that say anything, fit to print.
func (l *boundedLog) last(n int) []string {
	l.mu.Lock()
	tail := bytes.Clone(l.tail)
	l.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(tail)) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) || r == '\t' {
				return r
			}
			return -1
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

// pump gives a file whose bytes go to the log until every holder has closed it, which done tells.
func (l *boundedLog) pump() (w *os.File, done <-chan struct{}, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return write, l.drain(read), nil
}

// drain copies r to the log, and closes it at its end.
func (l *boundedLog) drain(r io.ReadCloser) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		_, _ = io.Copy(l, r)
	}()
	return done
}
