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

package chart

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/console/feed"
)

const (
	sparkParts  = 24
	sparkHeight = 28
	sparkStep   = 5
	chartParts  = 48
	chartHeight = 100
	chartStep   = 10
	// shortest is the height of a bar that stands for one of many.
	shortest = 3
)

// Chart is a drawing with what its axes say.
type Chart struct {
	SVG template.HTML
	// Top is what the highest value stands for; Empty says that there is nothing to draw.
	Top   string
	Empty bool
	// Start is when it begins.
	Start time.Time
}

// Spark draws the attempts of a span as small bars.
func Spark(rows []*feed.Row, now time.Time, span time.Duration) template.HTML {
	parts := buckets(rows, now, span, sparkParts)
	top := highest(parts)
	var b strings.Builder
	succeeded, failed := 0, 0
	for i := range parts {
		p := &parts[i]
		succeeded, failed = succeeded+p.succeeded, failed+p.failed
		x := i * sparkStep
		if p.total() == 0 {
			fmt.Fprintf(&b, `<rect class="none" x="%d" y="%d" width="3" height="1"/>`, x, sparkHeight-1)
			continue
		}
		bad, good := heights(p, top, sparkHeight)
		bar(&b, "good", x, sparkHeight-good, sparkStep-2, good)
		bar(&b, "bad", x, sparkHeight-good-bad, sparkStep-2, bad)
	}
	label := "No attempts in the last " + Span(span)
	if succeeded+failed > 0 {
		label = fmt.Sprintf("In the last %s: %d succeeded, %d failed", Span(span), succeeded, failed)
	}
	return draw("spark", label, sparkParts*sparkStep-2, sparkHeight, b.String())
}

// Outcomes draws how many attempts succeeded and failed.
func Outcomes(rows []*feed.Row, now time.Time, span time.Duration) Chart {
	parts := buckets(rows, now, span, chartParts)
	top := highest(parts)
	var b strings.Builder
	for i := range parts {
		p := &parts[i]
		if p.total() == 0 {
			continue
		}
		bad, good := heights(p, top, chartHeight)
		fmt.Fprintf(&b, `<g class="part"><title>%s: %d succeeded, %d failed</title>`, clock(p.from, span), p.succeeded, p.failed)
		bar(&b, "hit", i*chartStep, 0, chartStep, chartHeight)
		bar(&b, "good", i*chartStep+1, chartHeight-good, chartStep-2, good)
		bar(&b, "bad", i*chartStep+1, chartHeight-good-bad, chartStep-2, bad)
		b.WriteString("</g>")
	}
	s := Summarize(rows, now, span)
	label := fmt.Sprintf("Attempts in the last %s: %d succeeded, %d failed", Span(span), s.Succeeded, s.Failed)
	return Chart{
		SVG: draw("chart", label, chartParts*chartStep, chartHeight, b.String()),
		Top: strconv.Itoa(top), Empty: s.Attempts() == 0, Start: parts[0].from,
	}
}

// Latency draws how long attempts took: for each part of the span a bar from the median to the 95th percentile.
func Latency(rows []*feed.Row, now time.Time, span time.Duration) Chart {
	parts := buckets(rows, now, span, chartParts)
	var top time.Duration
	for i := range parts {
		top = max(top, parts[i].ninetyFifth)
	}
	var b strings.Builder
	for i := range parts {
		p := &parts[i]
		if p.total() == 0 {
			continue
		}
		low, high := scale(int64(p.median), int64(top), chartHeight), scale(int64(p.ninetyFifth), int64(top), chartHeight)
		fmt.Fprintf(&b, `<g class="part"><title>%s: median %s, 95%% within %s</title>`, clock(p.from, span), Duration(p.median), Duration(p.ninetyFifth))
		bar(&b, "hit", i*chartStep, 0, chartStep, chartHeight)
		bar(&b, "range", i*chartStep+1, chartHeight-high, chartStep-2, max(high-low, shortest))
		bar(&b, "median", i*chartStep+1, min(chartHeight-low, chartHeight-shortest), chartStep-2, shortest)
		b.WriteString("</g>")
	}
	s := Summarize(rows, now, span)
	label := fmt.Sprintf("Latency in the last %s: median %s, 95 percent within %s", Span(span), Duration(s.Median), Duration(s.NinetyFifth))
	return Chart{
		SVG: draw("chart", label, chartParts*chartStep, chartHeight, b.String()),
		Top: Duration(top), Empty: s.Attempts() == 0, Start: parts[0].from,
	}
}

func draw(class, label string, width, height int, content string) template.HTML {
	return template.HTML(fmt.Sprintf( //nolint:gosec // It is made of numbers and of our own words.
		`<svg class="%s" role="img" aria-label="%s" viewBox="0 0 %d %d" preserveAspectRatio="none">%s</svg>`,
		class, label, width, height, content))
}

func bar(b *strings.Builder, class string, x, y, width, height int) {
	if height > 0 {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, class, x, y, width, height)
	}
}

func highest(parts []bucket) int {
	top := 0
	for i := range parts {
		top = max(top, parts[i].total())
	}
	return top
}

// heights returns how high the failed and the succeeded attempts of a part are drawn: none that is there is left out.
func heights(p *bucket, top, height int) (bad, good int) {
	all := scale(int64(p.total()), int64(top), height)
	bad = scale(int64(p.failed), int64(top), height)
	good = all - bad
	if p.succeeded > 0 {
		good = max(good, shortest)
	} else {
		good = 0
	}
	return min(bad, height-good), good
}

// scale returns the height of a value, at least the shortest if it is not 0.
func scale(value, top int64, height int) int {
	if value == 0 || top == 0 {
		return 0
	}
	return max(int(float64(value)/float64(top)*float64(height)), shortest)
}

// clock returns the beginning of a part as people say it.
func clock(t time.Time, span time.Duration) string {
	if span > 24*time.Hour {
		return t.Local().Format("Mon 15:04")
	}
	return t.Local().Format("15:04")
}

// Span returns a span in words: "24 hours".
func Span(d time.Duration) string {
	switch {
	case d == time.Hour:
		return "hour"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	default:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
}

// Duration returns a duration for people, to three digits: "182 ms", "1.25 s".
func Duration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
}
