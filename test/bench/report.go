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
	"bytes"
	_ "embed" // For performance.md.tmpl.
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

// figuresFile is the file of the raw figures.
const figuresFile = "performance.json"

//go:embed performance.md.tmpl
var page string

// peer has measurements of Hookdeck Outpost, tuned as well as possible, with Redis, PostgreSQL and RabbitMQ on two
// such cores. They are medians of three runs; 0 means unknown.
var peer = map[string]figure{
	runSaturation: {PerSecond: 2047, CPU: map[string]float64{"all": 0.79}, Latency: percentiles{P99: 136}},
	runFanOut:     {PerSecond: 2734},
	runSteady:     {PerSecond: steadyRate, Latency: percentiles{P99: 55}},
	runAlone:      {Latency: percentiles{P99: 400}},
	runBeside:     {Latency: percentiles{P99: 45000}},
}

// report has all measurements.
type report struct {
	Date, Machine     string
	Commands          []string
	Fsync             bool
	Size, Connections int
	Replicas          int
	Modes             []*mode
}

// newReport returns a report of this measurement, with the earlier ones of the same file if options say so.
func newReport(o *options) (*report, error) {
	r := &report{}
	if o.add {
		content, err := os.ReadFile(filepath.Join(o.out, figuresFile))
		if err == nil {
			err = json.Unmarshal(content, r)
		}
		if err != nil {
			return nil, fmt.Errorf("read the figures to add to: %w", err)
		}
	}
	r.Date, r.Machine, r.Commands = time.Now().UTC().Format(time.DateOnly), machine(), append(r.Commands, command(os.Args[1:]))
	r.Fsync, r.Size, r.Connections, r.Replicas = o.fsync, o.size, o.connections, o.replicas
	return r, nil
}

// command returns the command line of the benchmark, without paths of this machine.
func command(args []string) string {
	var kept []string
	for i := 0; i < len(args); i++ {
		switch strings.TrimLeft(args[i], "-") {
		case "programs", "out":
			i++
		default:
			kept = append(kept, args[i])
		}
	}
	return fmt.Sprintf("make bench BENCH=%q", strings.Join(kept, " "))
}

// take adds the measurements of an intake. It replaces earlier figures of the same series and backlog runs. Other
// runs are replaced together, because they share their ceilings.
func (r *report) take(m *mode) {
	i := slices.IndexFunc(r.Modes, func(other *mode) bool { return other.Intake == m.Intake })
	if i < 0 {
		r.Modes = append(r.Modes, m)
		return
	}
	before := r.Modes[i]
	if len(m.Runs) > 0 {
		before.Ceilings, before.Runs = m.Ceilings, m.Runs
	}
	for _, s := range m.Series {
		before.Series = slices.DeleteFunc(before.Series, func(other *series) bool { return other.Name == s.Name })
		before.Series = append(before.Series, s)
	}
	for _, b := range m.Backlogs {
		before.Backlogs = slices.DeleteFunc(before.Backlogs, func(other *backlog) bool { return other.Name == b.Name })
		before.Backlogs = append(before.Backlogs, b)
	}
}

// machine describes the machine of the measurement.
func machine() string {
	model := "unknown processor"
	if content, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(content), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, " \t:"))
		}
	}
	return fmt.Sprintf("%d cores of %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// write writes the page, the figures and the plots in a folder.
func (r *report) write(folder string) error {
	images := filepath.Join(folder, "images")
	if err := os.MkdirAll(images, 0o755); err != nil { //nolint:gosec // Documentation is for everybody.
		return fmt.Errorf("make the folder for plots: %w", err)
	}
	encoded, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	made, err := template.New("page").Funcs(template.FuncMap{"processes": processes}).Parse(page)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	var text bytes.Buffer
	if err := made.Execute(&text, r); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	files := map[string][]byte{"performance.md": text.Bytes(), figuresFile: append(encoded, '\n')}
	for _, m := range r.Modes {
		for _, s := range m.Series {
			if len(s.Points) > 1 {
				files[filepath.Join("images", s.Plot(m.Intake))] = s.draw(m.Intake)
			}
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil { //nolint:gosec // As above.
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// processes returns the sorted names of the measured processes.
func processes(figures []figure) []string {
	names := map[string]bool{}
	for i := range figures {
		for name := range figures[i].CPU {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Title describes the run of a figure.
func (f *figure) Title() string {
	switch f.Name {
	case runSaturation:
		return "saturation, one endpoint"
	case runHalf:
		return "half of that load"
	case runSteady:
		return fmt.Sprintf("steady %d/s", steadyRate)
	case runFanOut:
		return fmt.Sprintf("each event to %d endpoints", fanOut)
	case runAlone:
		return "a healthy endpoint alone"
	case runBesideQuick:
		return "the same beside one that answers"
	case runBeside:
		return fmt.Sprintf("the same beside one that hangs %s", hangFor)
	}
	return f.Name
}

// TotalCPU returns the CPU milliseconds per delivery of all processes together.
func (f *figure) TotalCPU() float64 { return f.cpu() }

// Peer returns the measurements of the peer in the same run.
func (f *figure) Peer() *figure {
	known := peer[f.Name]
	return &known
}

// Shares returns a figure in percent of its ceilings: the bare API loop without and with deletes, or the bare
// JetStream loop.
func (m *mode) Shares(f figure) string {
	if f.Settled == 0 {
		return "" // The run did not wait until its deliveries were settled.
	}
	if m.Ceilings.JetStream > 0 {
		return percent(f.SettledPerSecond, m.Ceilings.JetStream)
	}
	return percent(f.SettledPerSecond, m.Ceilings.API) + ", " + percent(f.SettledPerSecond, m.Ceilings.APIPruned)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

// Remarks returns the notes, sorted.
func (f *figure) Remarks() string {
	remarks := make([]string, 0, len(f.Notes))
	for _, what := range slices.Sorted(maps.Keys(f.Notes)) {
		remarks = append(remarks, fmt.Sprintf("%s: %.1f", what, f.Notes[what]))
	}
	return strings.Join(remarks, "; ")
}

// Percent returns Prompt in percent.
func (f *figure) Percent() float64 { return 100 * f.Prompt }
