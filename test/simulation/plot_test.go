/*
Copyright 2026 The Postback Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package simulation

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// These are the dimensions of the plot in pixels.
const (
	plotWidth, plotHeight = 720, 260
	left, right           = 64, 16
	top, bottom           = 44, 40
)

// plot is a plot over time.
type plot struct {
	title, unit string
	// from and to are times relative to the end of the outage, or to the event that zero names.
	from, to, tick time.Duration
	zero           string
	lines          []line
}

// line is a curve, with one value per step from the begin of the plot.
type line struct {
	name, color string
	step        time.Duration
	values      []float64
}

// means returns the means of one-per-second samples, for each step of a span that begins at from.
func means(samples []int, from, to, step time.Duration) []float64 {
	var values []float64
	for at := from; at < to; at += step {
		values = append(values, float64(sum(span(samples, at, at+step)))/step.Seconds())
	}
	return values
}

// svg returns the plot as SVG.
func (p *plot) svg() string {
	highest := 0.0
	for _, l := range p.lines {
		for _, v := range l.values {
			highest = max(highest, v)
		}
	}
	unit := niceStep(highest / 4)
	highest = unit * math.Ceil(highest/unit)
	x := func(at time.Duration) float64 {
		return left + (plotWidth-left-right)*float64(at-p.from)/float64(p.to-p.from)
	}
	y := func(v float64) float64 { return plotHeight - bottom - (plotHeight-top-bottom)*v/highest }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#333">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<title>%s</title><rect width="100%%" height="100%%" fill="#fff"/>`+"\n", p.title)
	fmt.Fprintf(&b, `<text x="%d" y="18" font-weight="bold">%s</text>`+"\n", left, p.title)
	for v := 0.0; v <= highest; v += unit {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, y(v), plotWidth-right, left-6, y(v)+4, v)
	}
	for at := p.from; at <= p.to; at += p.tick {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(at), plotHeight-bottom+16, minutes(at))
	}
	fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#999" stroke-dasharray="4 3"/>`+"\n", x(0), top, plotHeight-bottom)
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s; 0: %s</text>`+"\n", plotWidth-right, plotHeight-6, p.unit, p.zero)
	for i, l := range p.lines {
		p.draw(&b, l, x, y)
		at := left + i*(plotWidth-left-right)/len(p.lines)
		fmt.Fprintf(&b, `<path d="M%d 32h18" stroke="%s" stroke-width="3"/><text x="%d" y="36">%s</text>`+"\n", at, l.color, at+24, l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p *plot) draw(b *strings.Builder, l line, x func(time.Duration) float64, y func(float64) float64) {
	fmt.Fprintf(b, `<path fill="none" stroke="%s" stroke-width="1.5" d="`, l.color)
	for i, v := range l.values {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(b, "%s%.1f %.1f", command, x(p.from+time.Duration(i)*l.step), y(v))
	}
	b.WriteString(`"/>` + "\n")
}

// niceStep returns the least number of the form 1, 2 or 5 times a power of ten that is at least atLeast.
func niceStep(atLeast float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(atLeast, 1))))
	for _, digit := range []float64{1, 2, 5} {
		if digit*power >= atLeast {
			return digit * power
		}
	}
	return 10 * power
}

func minutes(d time.Duration) string {
	if d%time.Hour == 0 && d != 0 {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}
