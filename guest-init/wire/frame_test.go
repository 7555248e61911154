package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// stream is a ReadWriteCloser that reads one buffer and writes another.
type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

func reader(b []byte) *Conn { return NewConn(stream{bytes.NewReader(b), io.Discard}) }

func frame(t Type, length uint32, payload string) []byte {
	b := []byte{byte(t), 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, length)
	return append(b, payload...)
}

func TestFrameBytes(t *testing.T) {
	var out bytes.Buffer
	c := NewConn(stream{nil, &out})
	if err := c.WriteFrame(TypeStdin, []byte("hi\n")); err != nil {
		t.Fatal(err)
	}
	if want := []byte{4, 0, 0, 0, 3, 0, 0, 0, 'h', 'i', '\n'}; !bytes.Equal(out.Bytes(), want) {
		t.Errorf("frame is % x, want % x", out.Bytes(), want)
	}
}

func TestFramesComeBack(t *testing.T) {
	var wire bytes.Buffer
	c := NewConn(stream{&wire, &wire})
	sent := []struct {
		t       Type
		payload []byte
	}{
		{TypeReady, nil},
		{TypeStdout, []byte("out")},
		{TypeStderr, make([]byte, MaxPayload)},
		{TypeClose, nil},
	}
	for _, f := range sent {
		if err := c.WriteFrame(f.t, f.payload); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		typ, payload, err := c.ReadFrame()
		if err != nil || typ != want.t || !bytes.Equal(payload, want.payload) {
			t.Errorf("ReadFrame = %v, %d bytes, %v; want %v, %d bytes", typ, len(payload), err, want.t, len(want.payload))
		}
	}
	if _, _, err := c.ReadFrame(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	reserved := frame(TypeStdin, 0, "")
	reserved[2] = 1
	for name, test := range map[string]struct {
		input []byte
		want  error
	}{
		"nothing":        {nil, io.EOF},
		"half a header":  {frame(TypeStdin, 0, "")[:5], io.ErrUnexpectedEOF},
		"no payload":     {frame(TypeStdin, 3, ""), io.ErrUnexpectedEOF},
		"half a payload": {frame(TypeStdin, 3, "ab"), io.ErrUnexpectedEOF},
		"type 0":         {frame(0, 0, ""), ErrFormat},
		"unknown type":   {frame(typeEnd, 0, ""), ErrFormat},
		"reserved bytes": {reserved, ErrFormat},
		"too long":       {frame(TypeStdin, MaxPayload+1, ""), ErrFormat},
		"4 GiB":          {frame(TypeStdin, 1<<32-1, ""), ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := reader(test.input).ReadFrame(); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestWriteFrameRefusesLongPayload(t *testing.T) {
	c := NewConn(stream{nil, io.Discard})
	if err := c.WriteFrame(TypeStdout, make([]byte, MaxPayload+1)); err == nil {
		t.Error("a payload over the limit was sent")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Fuzz(func(t *testing.T, input []byte) {
		reader(input).ReadBoot()
		var again bytes.Buffer
		c, w := reader(input), NewConn(stream{nil, &again})
		for {
			typ, payload, err := c.ReadFrame()
			if err != nil {
				break
			}
			switch typ {
			case TypeExit:
				if e, err := ParseExit(payload); err == nil && (e.Status() < 0 || e.Status() > 255) {
					t.Errorf("status %d", e.Status())
				}
			case TypeCredit:
				if n, err := ParseCredit(payload); err == nil && (n < 0 || n > StdinWindow) {
					t.Errorf("credit %d", n)
				}
			case TypeSignal:
				if n, err := ParseSignal(payload); err == nil && (n < 1 || n > maxSignal) {
					t.Errorf("signal %d", n)
				}
			case TypeWinsize:
				ParseWinsize(payload)
			}
			if err := w.WriteFrame(typ, payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(input, again.Bytes()) {
			t.Errorf("frames written again are % x, not a prefix of % x", again.Bytes(), input)
		}
	})
}
