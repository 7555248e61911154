package layers

import (
	"io"
	"sync"
)

// A Step is what is being done with a layer.
type Step string

// The steps of a layer, in order. A layer that is there already has only StepReuse.
const (
	StepDownload Step = "download"
	StepUnpack   Step = "unpack"
	StepDone     Step = "done"
	StepReuse    Step = "reuse"
)

// An Event says how far one layer is.
type Event struct {
	Layer string // digest of the blob, or diff ID where the source has no blobs
	Step  Step
	Done  int64 // bytes
	Total int64 // 0 when unknown
}

// Progress hears of events, one at a time, from any goroutine. It must not block for long.
type Progress func(Event)

// serial makes p safe to call from several goroutines, and never nil.
func serial(p Progress) Progress {
	if p == nil {
		return func(Event) {}
	}
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		p(e)
	}
}

// A meter reports what is read through it, each time another piece of it is done.
type meter struct {
	io.Reader
	event    Event
	progress Progress
	next     int64
}

const meterStep = 1 << 20

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	m.event.Done += int64(n)
	if m.event.Done >= m.next {
		m.next = m.event.Done + meterStep
		m.progress(m.event)
	}
	return n, err
}
