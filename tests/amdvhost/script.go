package amdvhost

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// script is what the emulated host runs: one command after the other, each with its outputs on the first two ports, ended by
// mark, and its status on the third. The file system is in sync before the last word.
func script(commands []Command, mark string) string {
	var b strings.Builder
	b.WriteString("set -- /dev/vport*p1 /dev/vport*p2 /dev/vport*p3\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "(cd %s && exec env -i %s %s) </dev/null >$1 2>$2; status=$?\n", quote(c.dir()), quoteAll(c.env()), quoteAll(c.Args))
		fmt.Fprintf(&b, "printf %%s %s >$1; printf %%s %s >$2; sync; echo $status >$3\n", mark, mark)
	}
	// The host ends the machine once it has the last status.
	b.WriteString("exec sleep 3600\n")
	return b.String()
}

func (c Command) dir() string {
	if c.Dir == "" {
		return "/"
	}
	return c.Dir
}

func (c Command) env() []string {
	if c.Env == nil {
		return os.Environ()
	}
	return c.Env
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// quote makes word one word of a shell.
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// copyUntil copies from r to w what comes before mark, as it comes, and takes mark out.
func copyUntil(w io.Writer, r *bufio.Reader, mark []byte) error {
	var held []byte // what may be the start of mark
	chunk := make([]byte, 32<<10)
	for {
		// Peek waits for a first byte; then nothing is read that is not there, so that a live stream stays live.
		if _, err := r.Peek(1); err != nil {
			return err
		}
		n, err := r.Read(chunk[:min(len(chunk), r.Buffered())])
		if err != nil {
			return err
		}
		held = append(held, chunk[:n]...)
		if before, after, found := bytes.Cut(held, mark); found {
			if len(after) > 0 {
				return fmt.Errorf("%d bytes after the end of the output", len(after))
			}
			_, err := w.Write(before)
			return err
		}
		whole := len(held) - overlap(held, mark)
		if _, err := w.Write(held[:whole]); err != nil {
			return err
		}
		held = held[whole:]
	}
}

// overlap is how many of the last bytes of data are the first of mark.
func overlap(data, mark []byte) int {
	for n := min(len(data), len(mark)-1); n > 0; n-- {
		if bytes.HasSuffix(data, mark[:n]) {
			return n
		}
	}
	return 0
}
