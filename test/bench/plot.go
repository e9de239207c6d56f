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

package main

import (
	"fmt"
	"math"
	"strings"
)

// These constants are the size of a plot and of its area for bars, in pixels.
const (
	plotWidth, plotHeight = 640, 220
	plotLeft, plotBottom  = 40, 170
	plotTop               = 40
	barShare              = 0.3
)

// Plot returns the file name of a series' plot.
func (s *series) Plot(intake string) string { return fmt.Sprintf("bench-%s-%s.svg", intake, s.Name) }

// draw returns the plot of a series as SVG, with the deliveries per second and the median latency of each value.
func (s *series) draw(intake string) []byte {
	var b strings.Builder
	highest := [2]float64{}
	for i := range s.Points {
		for j, value := range s.Points[i].bars() {
			highest[j] = math.Max(highest[j], value)
		}
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title>%s, by %s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", intake, s.What)
	for j, legend := range []string{"deliveries a second", "median latency, ms"} {
		fmt.Fprintf(&b, `<rect x="%d" y="10" width="10" height="10" fill="%s"/><text x="%d" y="19">%s</text>`+"\n", plotLeft+j*200, barColour(j), plotLeft+j*200+16, legend)
	}
	slot := float64(plotWidth-2*plotLeft) / float64(len(s.Points))
	for i := range s.Points {
		left := plotLeft + float64(i)*slot
		for j, value := range s.Points[i].bars() {
			height := 0.0
			if highest[j] > 0 {
				height = value / highest[j] * (plotBottom - plotTop - 14)
			}
			x, top := left+(0.15+float64(j)*(barShare+0.05))*slot, plotBottom-height
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x, top, barShare*slot, height, barColour(j))
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%.0f</text>`+"\n", x+barShare*slot/2, top-4, value)
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", left+slot/2, plotBottom+18, s.Points[i].Value)
	}
	fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#888"/>`+"\n", plotLeft, plotBottom, plotWidth-plotLeft, plotBottom)
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n</svg>\n", plotWidth/2, plotBottom+38, s.What)
	return []byte(b.String())
}

func barColour(i int) string { return []string{"#2563eb", "#d97706"}[i] }

func (p *point) bars() [2]float64 { return [2]float64{p.Figure.PerSecond, p.Figure.Latency.P50} }
