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

package monitoring

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
)

// dashboard has the tested fields of config/grafana/postback.json.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Type, Query string }
	}
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  source
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		Expr, LegendFormat string
		Datasource         source
	}
}

type source struct{ Type, UID string }

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	d := &dashboard{}
	if err := json.Unmarshal(readFile(t, "config", "grafana", "postback.json"), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardIsWhole looks for panels that Grafana would not show: overlapping, without a query, or without a data
// source.
func TestDashboardIsWhole(t *testing.T) {
	d := readDashboard(t)
	if d.Title != "Postback" || d.UID != "postback" || d.SchemaVersion == 0 {
		t.Errorf("the dashboard is %q, %q, schema %d", d.Title, d.UID, d.SchemaVersion)
	}
	variable := d.Templating.List[0]
	if variable.Name != "datasource" || variable.Type != "datasource" || variable.Query != "prometheus" {
		t.Errorf("the first variable is %v", variable)
	}
	places, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s has the id of another panel", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %s, or outside", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			if want := (source{"prometheus", "${datasource}"}); target.Datasource != want || p.Datasource != want {
				t.Errorf("%s has the data source %v", p.Title, target.Datasource)
			}
			checkNames(t, p.Title, target.Expr)
		}
	}
	checkEachIsShown(t, d)
}

// checkEachIsShown checks that each metric of the operator is on a panel.
func checkEachIsShown(t *testing.T, d *dashboard) {
	t.Helper()
	var all strings.Builder
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all.WriteString(target.Expr + "\n")
		}
	}
	for _, definition := range allDefinitions() {
		if !strings.Contains(all.String(), definition.Name) {
			t.Errorf("no panel shows %s", definition.Name)
		}
	}
}

// TestDashboardAndAlertsOfARealRun lets a real Prometheus scrape a run, and sends it every query of the dashboard,
// each of which must return data. The alerts are evaluated without an error, and none fires.
func TestDashboardAndAlertsOfARealRun(t *testing.T) {
	g := gomega.NewWithT(t)
	p := startPrometheus(t)
	n := newTenant(t, "on-the-dashboard")
	n.work(t)
	// Grafana replaces this variable by a range of several scrapes.
	variables := strings.NewReplacer("$__rate_interval", "10s")
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			query := variables.Replace(target.Expr)
			g.Eventually(func() (int, error) { return p.query(t.Context(), query) }).WithTimeout(patience).WithPolling(200*time.Millisecond).
				Should(gomega.BeNumerically(">", 0), "%s: %s", panel.Title, query)
		}
	}
	for query, want := range map[string]int{
		`sum(postback_retries_owner) == 1`:                                             1,
		`postback_ingest_events_total{job="postback-dispatcher",result="Stored"} >= 3`: 1,
		`postback_postbacks{job="postback-manager",ready="True"} >= 2`:                 1,
		`{__name__=~"postback_.*",namespace!=""}`:                                      0,
	} {
		g.Eventually(func() (int, error) { return p.query(t.Context(), query) }).WithTimeout(patience).Should(gomega.Equal(want), query)
	}
	g.Eventually(func() (map[string]string, error) { return p.alertStates(t.Context()) }).WithTimeout(patience).Should(gomega.HaveEach("inactive ok"))
}
