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
	"strconv"
	"strings"
	"time"
)

// portalTable returns the table of docs/portal.md.
func portalTable(figures []*portalFigure) string {
	var b strings.Builder
	row := func(title string, cell func(f *portalFigure) string) {
		b.WriteString("| " + title + " |")
		for _, f := range figures {
			b.WriteString(" " + cell(f) + " |")
		}
		b.WriteString("\n")
	}
	row("", func(f *portalFigure) string {
		return fmt.Sprintf("%d visitors of %d", f.visitors, f.namespaces) + plural(f.namespaces, " namespace")
	})
	b.WriteString("|---|" + strings.Repeat("---|", len(figures)) + "\n")
	row("from the endpoint's answer to the page, half / 99% of the events", func(f *portalFigure) string {
		return inMilliseconds(f.percentile(half)) + " / " + inMilliseconds(f.percentile(almostAll))
	})
	row("live pages that ended early", func(f *portalFigure) string { return strconv.Itoa(f.broken) })
	row("memory of the portal", func(f *portalFigure) string { return fmt.Sprintf("%d MiB", f.rss>>20) }) //nolint:mnd // MiB
	row("watches at the API server, without and with the visitors", func(f *portalFigure) string { return fmt.Sprintf("%.0f, %.0f", f.watchesBefore, f.watches) })
	row("CPU of the API server, without and with the visitors", func(f *portalFigure) string { return f.cores("kube-apiserver") })
	row("CPU of the portal, without and with the visitors", func(f *portalFigure) string { return f.cores("portal") })
	row("content of the live pages", func(f *portalFigure) string {
		return fmt.Sprintf("%.1f MB/s", float64(f.bytes)/1e6/f.lasts.Seconds()) //nolint:mnd // MB
	})
	return b.String()
}

const (
	half      = 0.5
	almostAll = 0.99
)

// percentile returns the delay that this part of the events has at most.
func (f *portalFigure) percentile(part float64) time.Duration {
	if len(f.delays) == 0 {
		return 0
	}
	return f.delays[int(part*float64(len(f.delays)-1))]
}

// cores returns the used part of a core, without and with the visitors.
func (f *portalFigure) cores(program string) string {
	part := func(u usage) float64 { return u[program].CPU.Seconds() / f.lasts.Seconds() }
	return fmt.Sprintf("%.2f, %.2f cores", part(f.without), part(f.with))
}

func inMilliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
