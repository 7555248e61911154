package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestBootMessageComesBack(t *testing.T) {
	small := Boot{
		Root:    Mount{Tag: TagRoot, Path: "/", ReadOnly: true},
		Volumes: []Mount{{Tag: "v0", Path: "/src"}},
		Args:    []string{"/bin/sh", "-c", "exit 7"},
		Env:     []string{"A=1"}, Dir: "/src", User: "1000:1000", Hostname: "box",
		Rlimits: []Rlimit{{Resource: 7, Soft: 10, Hard: 20}},
		TTY:     true, Rows: 24, Cols: 80,
	}
	large := small
	for i := range 10_000 {
		large.Env = append(large.Env, fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("x", 30)))
	}
	raw := small
	raw.Args, raw.Env, raw.Dir = []string{"caf\xe9", ""}, []string{"A=\xff\n"}, "/\x80"
	for name, boot := range map[string]Boot{"one frame": small, "many frames": large, "no UTF-8": raw, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			var wire bytes.Buffer
			c := NewConn(stream{&wire, &wire})
			if err := c.WriteBoot(&boot); err != nil {
				t.Fatal(err)
			}
			if many := wire.Len() > headerSize+MaxPayload; many != (name == "many frames") {
				t.Errorf("the message takes %d bytes", wire.Len())
			}
			got, err := c.ReadBoot()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, boot) {
				t.Error("what came back is not what was sent")
			}
		})
	}
}

func TestBootMessageLimits(t *testing.T) {
	c := NewConn(stream{nil, new(bytes.Buffer)})
	if err := c.WriteBoot(&Boot{Args: []string{strings.Repeat("x", MaxBoot)}}); err == nil {
		t.Error("a message over the limit was sent")
	}
	if err := c.WriteBoot(&Boot{Volumes: []Mount{{Path: "/caf\xe9"}}}); err == nil {
		t.Error("a path that cannot be sent was")
	}
	part := frame(TypeBootPart, MaxPayload, strings.Repeat("x", MaxPayload))
	for name, input := range map[string][]byte{
		"too long":      bytes.Repeat(part, MaxBoot/MaxPayload+1),
		"another frame": frame(TypeStdin, 0, ""),
		"no JSON":       frame(TypeBoot, 1, "{"),
	} {
		if _, err := reader(input).ReadBoot(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v, want a malformed frame", name, err)
		}
	}
}

func TestParseExit(t *testing.T) {
	for _, test := range []struct {
		payload string
		want    Exit
		status  int
	}{
		{`{"Code":7}`, Exit{Code: 7}, 7},
		{`{"Signal":9}`, Exit{Signal: 9}, 137},
		{`{"Code":127,"Error":"nope: command not found"}`, Exit{Code: 127, Error: "nope: command not found"}, 127},
		{`{"Code":126,"Error":"\u001b[2J\nmica: all is well"}`, Exit{Code: 126, Error: "?[2J?mica: all is well"}, 126},
	} {
		got, err := ParseExit([]byte(test.payload))
		if err != nil || got != test.want || got.Status() != test.status {
			t.Errorf("ParseExit(%s) = %+v, %v, status %d", test.payload, got, err, got.Status())
		}
	}
	for _, payload := range []string{``, `[]`, `{"Code":256}`, `{"Code":-1}`, `{"Signal":65}`, `{"Signal":-1}`} {
		if e, err := ParseExit([]byte(payload)); !errors.Is(err, ErrFormat) {
			t.Errorf("ParseExit(%s) = %+v, %v; want an error", payload, e, err)
		}
	}
	long, err := ParseExit(fmt.Appendf(nil, `{"Error":%q}`, strings.Repeat("x", 2*maxError)))
	if err != nil || len(long.Error) != maxError {
		t.Errorf("a long error has %d bytes, %v", len(long.Error), err)
	}
}

func TestSmallPayloads(t *testing.T) {
	var wire bytes.Buffer
	c := NewConn(stream{&wire, &wire})
	c.WriteSignal(15)
	c.WriteWinsize(24, 80)
	c.WriteCredit(65536)
	_, p, _ := c.ReadFrame()
	if n, err := ParseSignal(p); n != 15 || err != nil {
		t.Errorf("signal %d, %v", n, err)
	}
	_, p, _ = c.ReadFrame()
	if rows, cols, err := ParseWinsize(p); rows != 24 || cols != 80 || err != nil {
		t.Errorf("winsize %d, %d, %v", rows, cols, err)
	}
	_, p, _ = c.ReadFrame()
	if n, err := ParseCredit(p); n != 65536 || err != nil {
		t.Errorf("credit %d, %v", n, err)
	}
	for _, n := range []int{0, -1, 65} {
		if c.WriteSignal(n) == nil {
			t.Errorf("signal %d was sent", n)
		}
	}
	for _, p := range []string{"", "\x00", "\x41", "\x01\x01"} {
		if _, err := ParseSignal([]byte(p)); !errors.Is(err, ErrFormat) {
			t.Errorf("signal %q: %v", p, err)
		}
	}
	for _, p := range []string{"", "\x01\x00\x00", "\xff\xff\xff\xff"} {
		if _, err := ParseCredit([]byte(p)); !errors.Is(err, ErrFormat) {
			t.Errorf("credit %q: %v", p, err)
		}
	}
	if _, _, err := ParseWinsize([]byte("abc")); !errors.Is(err, ErrFormat) {
		t.Errorf("winsize: %v", err)
	}
}
