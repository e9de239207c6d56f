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
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const scrapeInterval = "1s"

// prometheus is a Prometheus server that scrapes the programs under the job names of the ServiceMonitors, and
// evaluates the alerts.
type prometheus struct{ address string }

func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	path := program(t, "prometheus")
	folder := t.TempDir()
	target := func(job, metrics string) map[string]any {
		address := strings.TrimSuffix(strings.TrimPrefix(metrics, "http://"), "/metrics")
		return map[string]any{"job_name": job, "static_configs": []any{map[string]any{"targets": []string{address}}}}
	}
	config, err := yaml.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": scrapeInterval, "evaluation_interval": scrapeInterval},
		"rule_files":     []string{writeRules(t, folder)},
		"scrape_configs": []any{target("postback-manager", manager.MetricsURL()), target("postback-dispatcher", dispatcher.MetricsURL()), target("postback-portal", portal.MetricsURL())},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "prometheus.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{address: freeAddress(t)}
	command := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+p.address)
	command.Dir, command.Stdout, command.Stderr = folder, log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			content, _ := os.ReadFile(log.Name())
			t.Logf("the log of Prometheus:\n%s", content)
		}
		_ = command.Process.Kill()
		_ = command.Wait()
		log.Close()
	})
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// get requests a path of Prometheus's API and decodes the data of the response.
func (p *prometheus) get(ctx context.Context, path string, parameters url.Values, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/api/v1/"+path+"?"+parameters.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", response.Status, answer.Error)
	}
	return nil
}

// query returns the number of series in the present result of a query.
func (p *prometheus) query(ctx context.Context, query string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := p.get(ctx, "query", url.Values{"query": {query}}, &data)
	return len(data.Result), err
}

// alertStates returns the state and health of each alert, by its name.
func (p *prometheus) alertStates(ctx context.Context) (map[string]string, error) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, State, Health, LastError string }
		}
	}
	states := map[string]string{}
	if err := p.get(ctx, "rules", nil, &data); err != nil {
		return nil, err
	}
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			states[rule.Name] = strings.TrimSpace(rule.State + " " + rule.Health + " " + rule.LastError)
		}
	}
	return states, nil
}
