package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxBoot is the longest boot message, in bytes of JSON.
const MaxBoot = 32 << 20

// maxError is the longest Exit.Error, in bytes: longer ones are cut.
const maxError = 4 << 10

// rawBoot is a Boot as it travels: what may be any bytes on Linux goes as bytes, base64 in JSON, which knows text only.
type rawBoot struct {
	Boot
	Args, Env [][]byte // in place of Boot's, as is
	Dir       []byte
}

func (r *rawBoot) boot() *Boot {
	b := r.Boot
	b.Args, b.Env, b.Dir = toStrings(r.Args), toStrings(r.Env), string(r.Dir)
	return &b
}

func toStrings(from [][]byte) (to []string) {
	for _, b := range from {
		to = append(to, string(b))
	}
	return to
}

func toBytes(from []string) (to [][]byte) {
	for _, s := range from {
		to = append(to, []byte(s))
	}
	return to
}

// WriteBoot sends b in as many frames as it takes. Arguments, variables and the working directory may hold any bytes; the rest
// is UTF-8.
func (c *Conn) WriteBoot(b *Boot) error {
	for _, v := range b.Volumes {
		if !utf8.ValidString(v.Path) {
			return fmt.Errorf("write boot message: volume %q: its path is not UTF-8", v.Path)
		}
	}
	text, err := json.Marshal(rawBoot{*b, toBytes(b.Args), toBytes(b.Env), []byte(b.Dir)})
	if err != nil {
		return fmt.Errorf("write boot message: %w", err)
	}
	if len(text) > MaxBoot {
		return fmt.Errorf("write boot message: %d bytes, at most %d: fewer or shorter arguments and variables would do", len(text), MaxBoot)
	}
	for len(text) > MaxPayload {
		if err := c.WriteFrame(TypeBootPart, text[:MaxPayload]); err != nil {
			return err
		}
		text = text[MaxPayload:]
	}
	return c.WriteFrame(TypeBoot, text)
}

// ReadBoot receives what WriteBoot sent.
func (c *Conn) ReadBoot() (*Boot, error) {
	var text []byte
	for {
		t, part, err := c.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("read boot message: %w", err)
		}
		if t != TypeBoot && t != TypeBootPart {
			return nil, fmt.Errorf("read boot message: %w: %v in its place", ErrFormat, t)
		}
		if len(text)+len(part) > MaxBoot {
			return nil, fmt.Errorf("read boot message: %w: more than %d bytes", ErrFormat, MaxBoot)
		}
		text = append(text, part...)
		if t == TypeBoot {
			break
		}
	}
	var r rawBoot
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read boot message: %w: %w", ErrFormat, err)
	}
	return r.boot(), nil
}

// WriteExit sends e.
func (c *Conn) WriteExit(e Exit) error {
	e.Error = oneLine(e.Error)
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write exit: %w", err)
	}
	return c.WriteFrame(TypeExit, text)
}

// ParseExit reads the payload of a guest's Exit frame. It comes from a hostile guest: what it returns is in range, and
// Error is one short line of printable characters.
func ParseExit(payload []byte) (Exit, error) {
	var e Exit
	if err := json.Unmarshal(payload, &e); err != nil {
		return Exit{}, fmt.Errorf("%w: exit: %w", ErrFormat, err)
	}
	if e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > maxSignal {
		return Exit{}, fmt.Errorf("%w: exit: code %d, signal %d", ErrFormat, e.Code, e.Signal)
	}
	e.Error = oneLine(e.Error)
	return e, nil
}

// Status is e as an exit status, 0 to 255, the way a shell has it.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}

// oneLine makes s fit to print: what a terminal would obey becomes a question mark.
func oneLine(s string) string {
	if len(s) > maxError {
		s = s[:maxError]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

const maxSignal = 64

// WriteSignal sends a signal number, 1 to 64.
func (c *Conn) WriteSignal(number int) error {
	if number < 1 || number > maxSignal {
		return fmt.Errorf("write signal frame: no signal %d", number)
	}
	return c.WriteFrame(TypeSignal, []byte{byte(number)})
}

// ParseSignal reads the payload of a Signal frame.
func ParseSignal(payload []byte) (int, error) {
	if len(payload) != 1 || payload[0] < 1 || payload[0] > maxSignal {
		return 0, fmt.Errorf("%w: signal: % x", ErrFormat, payload)
	}
	return int(payload[0]), nil
}

// WriteWinsize sends the size of the terminal.
func (c *Conn) WriteWinsize(rows, cols uint16) error {
	b := binary.LittleEndian.AppendUint16(nil, rows)
	return c.WriteFrame(TypeWinsize, binary.LittleEndian.AppendUint16(b, cols))
}

// ParseWinsize reads the payload of a Winsize frame.
func ParseWinsize(payload []byte) (rows, cols uint16, err error) {
	if len(payload) != 4 {
		return 0, 0, fmt.Errorf("%w: winsize: %d bytes", ErrFormat, len(payload))
	}
	return binary.LittleEndian.Uint16(payload), binary.LittleEndian.Uint16(payload[2:]), nil
}

// WriteCredit acknowledges n bytes of standard input.
func (c *Conn) WriteCredit(n int) error {
	return c.WriteFrame(TypeCredit, binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

// ParseCredit reads the payload of a Credit frame.
func ParseCredit(payload []byte) (int, error) {
	if len(payload) != 4 {
		return 0, fmt.Errorf("%w: credit: %d bytes", ErrFormat, len(payload))
	}
	n := binary.LittleEndian.Uint32(payload)
	if n > StdinWindow {
		return 0, fmt.Errorf("%w: credit: %d bytes, at most %d", ErrFormat, n, StdinWindow)
	}
	return int(n), nil
}
