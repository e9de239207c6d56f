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
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"

	// These packages define the metrics.
	_ "github.com/postback-dev/postback-operator/controllers"
	_ "github.com/postback-dev/postback-operator/controllers/servingcert"
	_ "github.com/postback-dev/postback-operator/dispatcher"
	"github.com/postback-dev/postback-operator/internal/metric"
	_ "github.com/postback-dev/postback-operator/portal"
)

const (
	rulesFile = "rules.yaml"
	testsFile = "alerts.yaml"
	runbooks  = "https://github.com/postback-dev/postback-operator/blob/main/docs/runbooks/"
)

// alerts returns the alerts of config/prometheus, decoded as strictly as by an API server with the Prometheus
// operator.
func alerts(t *testing.T) []v1.Rule {
	t.Helper()
	rule := &v1.PrometheusRule{}
	if err := yaml.UnmarshalStrict(readFile(t, "config", "prometheus", rulesFile), rule); err != nil {
		t.Fatal(err)
	}
	var all []v1.Rule
	for _, group := range rule.Spec.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// writeRules writes the rules in the format of Prometheus, and returns the path.
func writeRules(t *testing.T, folder string) string {
	t.Helper()
	rule := &v1.PrometheusRule{}
	if err := yaml.UnmarshalStrict(readFile(t, "config", "prometheus", rulesFile), rule); err != nil {
		t.Fatal(err)
	}
	content, err := yaml.Marshal(rule.Spec)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, rulesFile)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAlertsFireWhenTheyShould lets promtool check the rules and run their unit tests.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool := program(t, "promtool")
	folder := t.TempDir()
	rules := writeRules(t, folder)
	tests := filepath.Join(folder, testsFile)
	if err := os.WriteFile(tests, readFile(t, "test", "monitoring", "testdata", testsFile), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", rules},
		{"test", "rules", tests},
	} {
		if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args[:2], " "), err, output)
		}
	}
	// Without one of the alerts the unit tests fail, which proves that promtool compares.
	content, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := strings.Replace(string(content), `max(postback_oldest_due_age_seconds{waits_for="dispatcher"}) > 300`, `max(postback_oldest_due_age_seconds{waits_for="dispatcher"}) > 1e9`, 1)
	if err := os.WriteFile(rules, []byte(spoiled), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), promtool, "test", "rules", tests).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "PostbackDeliveriesOverdue") {
		t.Errorf("promtool finds nothing wrong with an alert that never fires: %v\n%s", err, output)
	}
}

// TestEveryAlertIsTested: each alert fires in a unit test, with its severity, and does not fire in another part of
// the same test.
func TestEveryAlertIsTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Name  string `json:"name"`
			Exprs []struct {
				Expr    string `json:"expr"`
				Samples []struct {
					Labels string `json:"labels"`
				} `json:"exp_samples"`
			} `json:"promql_expr_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(readFile(t, "test", "monitoring", "testdata", testsFile), &file); err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	for _, test := range file.Tests {
		quiet := false
		var firing []string
		for _, check := range test.Exprs {
			quiet = quiet || len(check.Samples) == 0
			for _, sample := range check.Samples {
				firing = append(firing, regexp.MustCompile(`alertname="(\w+)"`).FindStringSubmatch(sample.Labels)[1])
			}
		}
		if !quiet {
			t.Errorf("the test %q is never quiet", test.Name)
		}
		for _, name := range firing {
			fires[name] = true
		}
	}
	for _, alert := range alerts(t) {
		if !fires[alert.Alert] {
			t.Errorf("no test has %s fire", alert.Alert)
		}
	}
}

// TestEveryAlertHasARunbook: each alert links to a runbook, which exists and names the alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	index := string(readFile(t, "docs", "runbooks", "README.md"))
	operations := string(readFile(t, "docs", "operations.md"))
	for _, alert := range alerts(t) {
		if url := alert.Annotations["runbook_url"]; url != runbooks+alert.Alert+".md" {
			t.Errorf("%s: the runbook is %s", alert.Alert, url)
		}
		for _, part := range []string{"# " + alert.Alert + "\n", "**Meaning.**", "**Impact.**", "## Diagnosis", "## Mitigation"} {
			if runbook := string(readFile(t, "docs", "runbooks", alert.Alert+".md")); !strings.Contains(runbook, part) {
				t.Errorf("the runbook of %s has no %q", alert.Alert, part)
			}
		}
		if !slices.Contains([]string{"critical", "warning"}, alert.Labels["severity"]) {
			t.Errorf("%s: the severity is %q", alert.Alert, alert.Labels["severity"])
		}
		row := fmt.Sprintf("| [%s](%[1]s.md) | %s |", alert.Alert, alert.Labels["severity"])
		if !strings.Contains(index, row) {
			t.Errorf("docs/runbooks/README.md has no row %s", row)
		}
		if !strings.Contains(operations, "(runbooks/"+alert.Alert+".md)") {
			t.Errorf("docs/operations.md does not mention %s", alert.Alert)
		}
		for _, text := range []string{"summary", "description"} {
			if alert.Annotations[text] == "" {
				t.Errorf("%s has no %s", alert.Alert, text)
			}
		}
		checkNames(t, alert.Alert, alert.Expr.String())
	}
}

var ourMetric = regexp.MustCompile(`\bpostback_[a-z_]+`)

// checkNames checks that a query names only metrics that exist.
func checkNames(t *testing.T, where, query string) {
	t.Helper()
	known := map[string]bool{}
	for _, d := range allDefinitions() {
		known[d.Name] = true
		if d.Type == metric.HistogramType {
			known[d.Name+"_bucket"], known[d.Name+"_count"], known[d.Name+"_sum"] = true, true, true
		}
	}
	for _, name := range ourMetric.FindAllString(query, -1) {
		if !known[name] {
			t.Errorf("%s asks for %s, which there is not", where, name)
		}
	}
}

// allDefinitions returns the definitions of all programs' metrics.
func allDefinitions() []metric.Definition {
	return slices.Concat(metric.Manager.Definitions(), metric.Dispatcher.Definitions(), metric.Portal.Definitions())
}
