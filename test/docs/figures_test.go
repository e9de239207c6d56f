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

package docs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

type measuredRun struct {
	Name      string
	PerSecond float64
	Latency   struct{ P50, P99 float64 }
	CPU       map[string]float64
	PeakRSS   map[string]float64
}

type measuredIntake struct {
	Intake   string
	Ceilings struct{ HTTP, API, APIPruned, JetStream float64 }
	Runs     []measuredRun
}

// run returns the run with a name.
func (i *measuredIntake) run(t *testing.T, name string) *measuredRun {
	t.Helper()
	for j := range i.Runs {
		if i.Runs[j].Name == name {
			return &i.Runs[j]
		}
	}
	t.Fatalf("performance.json has no run %s of the intake %s", name, i.Intake)
	return nil
}

// cpu returns the CPU milliseconds per delivery of all processes together.
func (r *measuredRun) cpu() (sum float64) {
	for _, each := range r.CPU {
		sum += each
	}
	return sum
}

// TestFiguresAgree: the figures in the README and docs/scale.md are those that "make bench" measured.
func TestFiguresAgree(t *testing.T) {
	var measured struct{ Modes []measuredIntake }
	if err := json.Unmarshal([]byte(read(t, "docs", "performance.json")), &measured); err != nil {
		t.Fatal(err)
	}
	if len(measured.Modes) != 3 {
		t.Fatalf("performance.json is of %d intakes", len(measured.Modes))
	}
	english := message.NewPrinter(language.English)
	var rows [6][]string
	for i := range measured.Modes {
		intake := &measured.Modes[i]
		saturation, half := intake.run(t, "saturation"), intake.run(t, "half")
		rows[0] = append(rows[0], english.Sprintf("%.0f", saturation.PerSecond))
		rows[1] = append(rows[1], english.Sprintf("%.0f", intake.run(t, "fanout").PerSecond))
		rows[2] = append(rows[2], fmt.Sprintf("%.0f and %.0f ms", half.Latency.P50, half.Latency.P99))
		rows[3] = append(rows[3], fmt.Sprintf("%.0f ms", intake.run(t, "beside").Latency.P99))
		digits := 2
		if saturation.cpu() >= 10 {
			digits = 1
		}
		rows[5] = append(rows[5], fmt.Sprintf("%.*f ms", digits, saturation.cpu()))
		rows[4] = append(rows[4], fmt.Sprintf("%.0f and %.0f MiB", saturation.PeakRSS["dispatcher 0"], saturation.PeakRSS["manager"]))
	}
	for _, row := range rows {
		if want := "| " + strings.Join(row, " | ") + " |"; !strings.Contains(read(t, "README.md"), want) {
			t.Errorf("README.md has no row with %s", want)
		}
	}
	kubernetes, jetStream := measured.Modes[0].Ceilings, measured.Modes[1].Ceilings
	for _, want := range []string{
		english.Sprintf("%.0f creates with a status write, %.0f with the delete", kubernetes.API, kubernetes.APIPruned),
		english.Sprintf("%.0f messages pulled from a stream", jetStream.JetStream),
		english.Sprintf("made %d (%.0f creates", 3*int(kubernetes.APIPruned), kubernetes.APIPruned),
		english.Sprintf("%.1f%% of the rate at which the bare loop", 100*278/jetStream.JetStream),
	} {
		if !strings.Contains(read(t, "docs", "scale.md"), want) {
			t.Errorf("docs/scale.md does not say %q", want)
		}
	}
}
