package layers

import "io"

const (
	aheadPieces = 64
	aheadSize   = 256 << 10
)

// An ahead reads from another reader in a goroutine of its own, a few pieces before they are asked for: a layer is decompressed and hashed
// while its files are written.
type ahead struct {
	filled chan piece
	empty  chan []byte
	stop   chan struct{}
	piece  piece // what is being read
	buffer []byte
}

type piece struct {
	data []byte
	err  error // after data
}

func readAhead(r io.Reader) *ahead {
	a := &ahead{filled: make(chan piece, aheadPieces), empty: make(chan []byte, aheadPieces), stop: make(chan struct{})}
	for range aheadPieces {
		a.empty <- make([]byte, aheadSize)
	}
	go a.fill(r)
	return a
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.filled)
	for {
		select {
		case <-a.stop:
			return
		case buffer := <-a.empty:
			n, err := readSome(r, buffer)
			a.filled <- piece{buffer[:n], err} // there is room for as many as there are buffers
			if err != nil {
				return
			}
		}
	}
}

// readSome fills b, or as much of it as there is before an error.
func readSome(r io.Reader, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		got, err := r.Read(b[n:])
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (a *ahead) Read(b []byte) (int, error) {
	for len(a.piece.data) == 0 {
		if a.piece.err != nil {
			return 0, a.piece.err
		}
		if a.buffer != nil {
			a.empty <- a.buffer
			a.buffer = nil
		}
		a.piece = <-a.filled
		a.buffer = a.piece.data[:cap(a.piece.data)]
	}
	n := copy(b, a.piece.data)
	a.piece.data = a.piece.data[n:]
	return n, nil
}

// Close waits until nothing reads from the other reader any more. No Read may follow.
func (a *ahead) Close() {
	close(a.stop)
	for range a.filled {
	}
}
