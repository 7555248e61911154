package main

import (
	"fmt"
	"io"

	"golang.org/x/term"

	"github.com/micavm/mica/layers"
)

// A progress shows how a pull goes: one line that changes on a terminal, and a line a step elsewhere.
type progress struct {
	out    io.Writer
	live   bool
	quiet  bool
	shown  bool // the live line is on the screen
	layers map[string]layers.Event
}

func newProgress(a *app) *progress {
	return &progress{out: a.stderr, live: term.IsTerminal(int(a.stderr.Fd())), quiet: a.quiet, layers: map[string]layers.Event{}}
}

// event is a layers.Progress.
func (p *progress) event(e layers.Event) {
	before := p.layers[e.Layer]
	p.layers[e.Layer] = e
	switch {
	case p.quiet || e.Step == layers.StepReuse:
	case p.live:
		p.draw()
	case before.Step != e.Step:
		fmt.Fprintf(p.out, "mica: layer %s: %s\n", short(e.Layer), describe(e))
	}
}

func describe(e layers.Event) string {
	size := max(e.Total, e.Done)
	if size == 0 {
		return string(e.Step)
	}
	return fmt.Sprintf("%s, %.1f MiB", e.Step, mebibytes(size))
}

// draw writes the live line over the one before it.
func (p *progress) draw() {
	var ready int
	var done, total int64
	for _, e := range p.layers {
		switch e.Step {
		case layers.StepDone, layers.StepReuse:
			ready++
		default:
			done += e.Done
			total += max(e.Total, e.Done)
		}
	}
	fmt.Fprintf(p.out, "\r\x1b[Kmica: %d of %d layers ready, %.1f of %.1f MiB", ready, len(p.layers), mebibytes(done), mebibytes(total))
	p.shown = true
}

// end takes the live line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// short is enough of a digest to know it by.
func short(digest string) string {
	const enough = len("sha256:") + 12
	if len(digest) > enough {
		return digest[:enough]
	}
	return digest
}
