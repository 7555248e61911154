package vhostuser

import "testing"

func benchmark(b *testing.B, op uint32, node uint64, body []byte, outSize int) {
	fs := newTestFS(b)
	if err := fs.file.Truncate(1 << 20); err != nil {
		b.Fatal(err)
	}
	f := boot(b, fs, Options{}, setups["all"])
	q := f.queues[1]
	in := f.message(op, node, body)
	b.ReportAllocs()
	for b.Loop() {
		q.submit(in, outSize)
		if _, _, err := q.collect(patience); err != nil {
			b.Fatal(err)
		}
	}
}

// The driver's side is in these numbers: two eventfds, and two goroutines that wait for each other.
func BenchmarkLookup(b *testing.B) { benchmark(b, opLookup, 1, []byte("file\x00"), entryOutSize) }
func BenchmarkRead4K(b *testing.B) { benchmark(b, opRead, 2, readIn(0, 4<<10), outHeaderSize+4<<10) }
func BenchmarkRead128K(b *testing.B) {
	benchmark(b, opRead, 2, readIn(0, 128<<10), outHeaderSize+128<<10)
}

// BenchmarkLookupBatch makes 16 lookups available for each kick.
func BenchmarkLookupBatch(b *testing.B) {
	f := boot(b, newTestFS(b), Options{}, setups["all"])
	q := f.queues[1]
	in := f.message(opLookup, 1, []byte("file\x00"))
	b.ReportAllocs()
	for b.Loop() {
		for range 16 {
			q.submit(in, entryOutSize)
		}
		for range 16 {
			if _, _, err := q.collect(patience); err != nil {
				b.Fatal(err)
			}
		}
	}
}
