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

// Package chart draws hourly attempts, from PostbackStatistics, as SVG that scales to its container.
package chart

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/internal/statistics"
)

const (
	sparkHeight = 28
	sparkStep   = 9
	chartHeight = 100
	chartStep   = 10
	// shortest is the height of a bar for a count that is not 0 but would be invisible.
	shortest = 3
)

// Chart is a drawing with the labels of its axes.
type Chart struct {
	SVG template.HTML
	// Top and Middle are the values of the upper grid lines. Empty says that no hour has attempts.
	Top, Middle string
	Empty       bool
	// Times are the labels of the time axis, from the start to the present.
	Times []string
}

// timeLabels is the number of labels of the time axis before "now".
const timeLabels = 4

// times returns the labels of the time axis.
func times(drawn []statistics.Counts, long time.Duration) []string {
	var labels []string
	for i := range timeLabels {
		if at := i * len(drawn) / timeLabels; at < len(drawn) {
			labels = append(labels, clock(drawn[at].Since, long))
		}
	}
	return append(labels, "now")
}

// round returns the smallest value of at least top that is one of the digits times a power of ten.
func round(top int64, digits ...int64) int64 {
	for power := int64(1); ; power *= 10 {
		for _, digit := range digits {
			if digit*power >= top {
				return digit * power
			}
		}
	}
}

// Spark draws the attempts of each hour as a small bar.
func Spark(hours []statistics.Counts) template.HTML {
	top := highest(hours)
	var b strings.Builder
	for i := range hours {
		p := &hours[i]
		x := i * sparkStep
		if p.Attempts == 0 {
			fmt.Fprintf(&b, `<rect class="none" x="%d" y="%d" width="%d" height="1"/>`, x, sparkHeight-1, sparkStep-2)
			continue
		}
		bad, good := heights(p, top, sparkHeight)
		bar(&b, "good", x, sparkHeight-good, sparkStep-2, good)
		bar(&b, "bad", x, sparkHeight-good-bad, sparkStep-2, bad)
	}
	label := "No attempts in the last " + Span(span(hours))
	if sum := statistics.Sum(hours); sum.Attempts > 0 {
		label = fmt.Sprintf("In the last %s: %d attempts succeeded, %d failed", Span(span(hours)), sum.Succeeded, sum.FailedAttempts())
	}
	return draw("spark", "", label, len(hours)*sparkStep-2, sparkHeight, b.String())
}

// span returns the time from the first hour to the last one.
func span(hours []statistics.Counts) time.Duration {
	if len(hours) == 0 {
		return 0
	}
	return hours[len(hours)-1].Since.Sub(hours[0].Since)
}

// parts groups the hours of a long span, so that bars do not become too thin.
func parts(hours []statistics.Counts) []statistics.Counts {
	if len(hours) > mostParts {
		return statistics.Group(hours, joined)
	}
	return hours
}

const (
	// mostParts is the number of bars that are wide enough on a small screen. Beyond it, each bar has joined hours.
	mostParts = 48
	joined    = 4
)

// Outcomes draws the succeeded and failed attempts of each hour.
func Outcomes(hours []statistics.Counts) Chart {
	drawn, long := parts(hours), span(hours)
	top := round(highest(drawn), 2, 4, 6, 8, 10)
	var b strings.Builder
	for i := range drawn {
		p := &drawn[i]
		bad, good := heights(p, top, chartHeight)
		fmt.Fprintf(&b, `<g class="part" data-tip="From %s: %d attempts succeeded, %d failed">`, clock(p.Since, long), p.Succeeded, p.FailedAttempts())
		bar(&b, "hit", i*chartStep, 0, chartStep, chartHeight)
		bar(&b, "good", i*chartStep+1, chartHeight-good, chartStep-2, good)
		bar(&b, "bad", i*chartStep+1, chartHeight-good-bad, chartStep-2, bad)
		b.WriteString("</g>")
	}
	sum := statistics.Sum(hours)
	label := fmt.Sprintf("Attempts in the last %s: %d succeeded, %d failed", Span(long), sum.Succeeded, sum.FailedAttempts())
	return Chart{
		SVG: draw("chart", `id="chart-outcomes" tabindex="0" data-chart="outcomes"`, label, len(drawn)*chartStep, chartHeight, b.String()),
		Top: strconv.FormatInt(top, 10), Middle: strconv.FormatInt(top/2, 10), Empty: sum.Attempts == 0, Times: times(drawn, long),
	}
}

// Latency draws the attempt duration in each hour: a bar from the median to the 95th percentile. Both are estimates.
func Latency(hours []statistics.Counts) Chart {
	drawn, long := parts(hours), span(hours)
	var top time.Duration
	for i := range drawn {
		top = max(top, drawn[i].Percentile(ninetyFifth))
	}
	top = time.Duration(round(int64(top), 1, 2, 5))
	var b strings.Builder
	for i := range drawn {
		p := &drawn[i]
		if p.Attempts == 0 {
			fmt.Fprintf(&b, `<g class="part" data-tip="From %s: no attempts">`, clock(p.Since, long))
			bar(&b, "hit", i*chartStep, 0, chartStep, chartHeight)
			b.WriteString("</g>")
			continue
		}
		half, most := p.Percentile(median), p.Percentile(ninetyFifth)
		low, high := scale(int64(half), int64(top), chartHeight), scale(int64(most), int64(top), chartHeight)
		fmt.Fprintf(&b, `<g class="part" data-tip="From %s: median about %s, 95%% within %s">`, clock(p.Since, long), Duration(half), Duration(most))
		bar(&b, "hit", i*chartStep, 0, chartStep, chartHeight)
		bar(&b, "range", i*chartStep+1, chartHeight-high, chartStep-2, max(high-low, shortest))
		bar(&b, "median", i*chartStep+1, min(chartHeight-low, chartHeight-shortest), chartStep-2, shortest)
		b.WriteString("</g>")
	}
	sum := statistics.Sum(hours)
	label := fmt.Sprintf("Latency in the last %s: median about %s, 95 percent within %s", Span(long),
		Duration(sum.Percentile(median)), Duration(sum.Percentile(ninetyFifth)))
	return Chart{
		SVG: draw("chart", `id="chart-latency" tabindex="0" data-chart="latency"`, label, len(drawn)*chartStep, chartHeight, b.String()),
		Top: Duration(top), Middle: Duration(top / 2), Empty: sum.Attempts == 0, Times: times(drawn, long),
	}
}

const median, ninetyFifth = 0.5, 0.95

func draw(class, attributes, label string, width, height int, content string) template.HTML {
	return template.HTML(fmt.Sprintf( //nolint:gosec // It is made of numbers and of our own words.
		`<svg class="%s" %s role="img" aria-label="%s" viewBox="0 0 %d %d" preserveAspectRatio="none">%s</svg>`,
		class, attributes, label, width, height, content))
}

func bar(b *strings.Builder, class string, x, y, width, height int) {
	if height > 0 {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, class, x, y, width, height)
	}
}

func highest(parts []statistics.Counts) int64 {
	var top int64
	for i := range parts {
		top = max(top, parts[i].Attempts)
	}
	return top
}

// heights returns the heights of a bar's failed and succeeded parts. A count that is not 0 is always visible.
func heights(p *statistics.Counts, top int64, height int) (bad, good int) {
	all := scale(p.Attempts, top, height)
	bad = scale(p.FailedAttempts(), top, height)
	good = all - bad
	if p.Succeeded > 0 {
		good = max(good, shortest)
	} else {
		good = 0
	}
	return min(bad, height-good), good
}

// scale returns the height for a value: 0 for 0, and otherwise at least shortest.
func scale(value, top int64, height int) int {
	if value == 0 || top == 0 {
		return 0
	}
	return max(int(float64(value)/float64(top)*float64(height)), shortest)
}

// clock formats the beginning of a bar, with the weekday if the chart spans more than a day.
func clock(t time.Time, span time.Duration) string {
	if span > 24*time.Hour {
		return t.Local().Format("Mon 15:04")
	}
	return t.Local().Format("15:04")
}

// Span returns a span in words, such as "24 hours".
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

// Duration formats a duration with three digits, such as "182 ms" or "1.25 s".
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
