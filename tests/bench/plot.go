package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A plot shows how cost grows: both axes are logarithmic, so that a cost in proportion is a line of slope one, and a constant one is level.
type plot struct {
	file          string // its name, beside the report
	title         string
	xLabel, label string // of the axes
	lines         []line
}

type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// The drawing's size and the margins around the axes, in pixels.
const (
	plotWidth, plotHeight = 640, 400
	marginLeft            = 70
	marginRight           = 150
	marginTop             = 40
	marginBottom          = 50
)

var lineColours = []string{"#1b6ca8", "#c8553d", "#588157", "#6d597a"}

func writePlots(dir string, plots []plot) error {
	for _, p := range plots {
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// An axis turns values into pixels.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	return a.from + (math.Log10(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

// decades are the powers of ten on the axis.
func (a axis) decades() []float64 {
	var marks []float64
	for e := a.low; e <= a.high; e++ {
		marks = append(marks, math.Pow(10, e))
	}
	return marks
}

// axes span whole decades around all points.
func (p plot) axes() (x, y axis) {
	x, y = axis{math.Inf(1), math.Inf(-1), marginLeft, plotWidth - marginRight}, axis{math.Inf(1), math.Inf(-1), plotHeight - marginBottom, marginTop}
	for _, l := range p.lines {
		for _, at := range l.points {
			x.low, x.high = math.Min(x.low, math.Floor(math.Log10(at.x))), math.Max(x.high, math.Ceil(math.Log10(at.x)))
			y.low, y.high = math.Min(y.low, math.Floor(math.Log10(at.y))), math.Max(y.high, math.Ceil(math.Log10(at.y)))
		}
	}
	x.high, y.high = math.Max(x.high, x.low+1), math.Max(y.high, y.low+1)
	return x, y
}

func (p plot) svg() string {
	x, y := p.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="14">%s</text>`+"\n", marginLeft, p.title)
	for _, v := range x.decades() {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`+"\n", x.at(v), y.from, y.to, x.at(v), y.from+16, v)
	}
	for _, v := range y.decades() {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%g</text>`+"\n", x.from, y.at(v), x.to, x.from-6, y.at(v)+4, v)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text><text transform="translate(16 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(x.from+x.to)/2, plotHeight-10, p.xLabel, (y.from+y.to)/2, p.label)
	for i, l := range p.lines {
		colour := lineColours[i%len(lineColours)]
		var path strings.Builder
		for j, at := range l.points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x.at(at.x), y.at(at.y))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x.at(at.x), y.at(at.y), colour)
		}
		last := l.points[len(l.points)-1]
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n",
			path.String(), colour, x.at(last.x)+8, y.at(last.y)+4, colour, l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
