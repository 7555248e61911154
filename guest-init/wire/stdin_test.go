package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"net"
	"testing"
)

// TestEcho sends 100 MB to a guest that sends it all back, over a stream that buffers nothing.
func TestEcho(t *testing.T) {
	const size = 100 << 20
	hostEnd, guestEnd := net.Pipe()
	host, guest := NewConn(hostEnd), NewConn(guestEnd)
	defer host.Close()
	defer guest.Close()

	// The guest reads frames in one goroutine and answers in another, as guest-init does.
	chunks := make(chan []byte, StdinWindow)
	go func() {
		defer close(chunks)
		for {
			typ, payload, err := guest.ReadFrame()
			if err != nil || typ == TypeClose {
				return
			}
			chunks <- bytes.Clone(payload)
		}
	}()
	go func() {
		for p := range chunks {
			guest.WriteFrame(TypeStdout, p)
			guest.WriteCredit(len(p))
		}
		guest.WriteExit(Exit{})
	}()

	sender := NewStdinSender(host)
	sent := sha256.New()
	done := make(chan error, 1)
	go func() {
		done <- sender.Copy(io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), size), sent))
	}()

	received := sha256.New()
	n := 0
	for typ := Type(0); typ != TypeExit; {
		var payload []byte
		var err error
		if typ, payload, err = host.ReadFrame(); err != nil {
			t.Fatal(err)
		}
		switch typ {
		case TypeStdout:
			n += len(payload)
			received.Write(payload)
		case TypeCredit:
			if err := sender.Credit(payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n != size || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Errorf("%d bytes came back with another digest, of %d", n, size)
	}
}

// TestWindow has a guest that reads nothing: signals still get through, and the end is prompt.
func TestWindow(t *testing.T) {
	hostEnd, guestEnd := net.Pipe()
	host, guest := NewConn(hostEnd), NewConn(guestEnd)
	defer host.Close()
	defer guest.Close()
	sender := NewStdinSender(host)
	done := make(chan error, 1)
	go func() { done <- sender.Copy(zeros{}) }()

	for got := 0; got < StdinWindow; {
		typ, payload, err := guest.ReadFrame()
		if err != nil || typ != TypeStdin {
			t.Fatalf("%v, %v", typ, err)
		}
		got += len(payload)
		if got > StdinWindow {
			t.Fatalf("%d bytes without a credit", got)
		}
	}
	go host.WriteSignal(15)
	if typ, _, err := guest.ReadFrame(); typ != TypeSignal || err != nil {
		t.Fatalf("after a whole window: %v, %v; want the signal", typ, err)
	}
	sender.Close()
	if err := <-done; !errors.Is(err, ErrStdinClosed) {
		t.Errorf("Copy: %v, want %v", err, ErrStdinClosed)
	}
}

func TestCreditForNothing(t *testing.T) {
	sender := NewStdinSender(NewConn(stream{nil, io.Discard}))
	if err := sender.Credit([]byte{1, 0, 0, 0}); !errors.Is(err, ErrFormat) {
		t.Errorf("a credit for what was never sent: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
