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

package install

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/test/operator"
)

// valuesOfParts are values that manager, dispatcher and portal have in common, each other than the default.
var valuesOfParts = map[string]any{
	"image.repository": "mirror", "image.digest": "sha256:" + strings.Repeat("0", 64), "replicas": 3,
	"extraArgs": []string{"--zap-log-level=debug"}, "extraEnv": []any{map[string]any{"name": "A", "value": "b"}},
	"resources.requests": map[string]any{"cpu": "1"}, "resources.limits": map[string]any{"memory": "1Gi"},
	"podDisruptionBudget.enabled": false, "podDisruptionBudget.minAvailable": "50%",
	"podAnnotations": map[string]any{"a": "b"}, "podLabels": map[string]any{"a": "b"}, "priorityClassName": "high",
	"nodeSelector": map[string]any{"a": "b"}, "tolerations": []any{map[string]any{"operator": "Exists"}},
	"affinity": map[string]any{"nodeAffinity": map[string]any{}},
}

// values returns every value of the chart, each other than the default.
func values(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{
		"image.registry": "registry.example.com/acme", "image.tag": "v9", "image.pullPolicy": "Always", "image.pullSecrets": []string{"registry"},
		"labels": map[string]any{"team": "growth"}, "crds.enabled": false, "crds.keep": false, "signatureHeader": "Acme-Signature",
		"watchNamespaces":     []string{"partner-acme"},
		"ingest.service.type": "LoadBalancer", "ingest.service.annotations": map[string]any{"a": "b"},
		"ingest.service.loadBalancerSourceRanges": []string{"192.0.2.0/24"}, "ingest.certificate.source": "External",
		"ingest.certificate.dnsNames": []string{"events.example.com"}, "ingest.certificate.issuerRef.name": "other",
		"ingest.certificate.issuerRef.kind": "ClusterIssuer", "ingest.certificate.issuerRef.group": "awspca.cert-manager.io",
		"intake": "jetstream", "nats.url": "nats://other:4222", "nats.credentialsSecret": "a", "nats.caSecret": "b", "nats.tlsSecret": "c", "nats.replicas": 3,
		"nats.duplicateWindow": "10m", "nats.groupCommit": true, "nats.maxBytes": 1 << 20, "nats.log.maxAge": "1h", "nats.log.maxBytes": 1 << 20,
		"nats.embedded.enabled": false, "nats.embedded.replicas": 3, "nats.embedded.syncInterval": "1s", "nats.embedded.storage.size": "1Ti",
		"nats.embedded.storage.className": "fast", "nats.embedded.resources.requests": map[string]any{"cpu": "2"}, "nats.embedded.resources.limits": map[string]any{"memory": "8Gi"},
		"manager.allowPlainHTTP": true, "podSecurityContext.runAsUser": nil, "podSecurityContext.runAsGroup": nil,
		"podSecurityContext.runAsNonRoot": nil, "podSecurityContext.seccompProfile.type": "Localhost",
		"dispatcher.extraVolumes": []any{map[string]any{"name": "a"}}, "dispatcher.extraVolumeMounts": []any{map[string]any{"name": "a", "mountPath": "/a"}},
		"dispatcher.autoscaling.enabled": false, "dispatcher.autoscaling.minReplicas": 3, "dispatcher.autoscaling.maxReplicas": 9, "dispatcher.autoscaling.cpu": "1",
		"portal.enabled": false, "portal.url": "https://other.example.com", "portal.certificate.source": "External", "portal.certificate.issuerRef.name": "other",
		"portal.certificate.issuerRef.kind": "Issuer", "portal.certificate.issuerRef.group": "awspca.cert-manager.io", "portal.plainHTTP": true, "portal.trustForwardedFor": true,
		"portal.oidc.issuerURL": "https://login.example.com", "portal.oidc.clientID": "postback", "portal.oidc.clientSecret": "a", "portal.oidc.caConfigMap": "b",
		"portal.oidc.scopes": "offline_access", "portal.oidc.namespaceClaim": "namespaces",
		"portal.embed.origins":       []string{"https://app.example.com"},
		"portal.service.annotations": map[string]any{"a": "b"}, "portal.networkPolicy.enabled": false, "portal.priority.enabled": false, "portal.ingress.enabled": false, "portal.ingress.className": "public",
		"portal.ingress.annotations": map[string]any{"a": "b"}, "portal.ingress.tlsSecret": "other", "portal.httpRoute.enabled": false,
		"portal.httpRoute.parentRefs": []any{map[string]any{"name": "other"}},
		"networkPolicy.enabled":       true, "priority.enabled": true,
		"serviceMonitor.enabled": false, "serviceMonitor.labels": map[string]any{"a": "b"},
		"prometheusRule.enabled": false, "prometheusRule.labels": map[string]any{"a": "b"},
		"dashboard.enabled": false, "dashboard.labels": map[string]any{"a": "b"},
	}
	for path, value := range valuesOfParts {
		all["manager."+path], all["dispatcher."+path], all["portal."+path] = value, value, value
	}
	return all
}

// leaves returns the paths of all values in the chart's values.yaml, except those below a path of known.
func leaves(t *testing.T, known map[string]any) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(chart(), "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.UnmarshalStrict(content, &defaults); err != nil {
		t.Fatal(err)
	}
	var paths []string
	var walk func(prefix string, at map[string]any)
	walk = func(prefix string, at map[string]any) {
		for name, value := range at {
			path := prefix + name
			_, end := known[path]
			if below, ok := value.(map[string]any); ok && !end {
				walk(path+".", below)
				continue
			}
			paths = append(paths, path)
		}
	}
	walk("", defaults)
	return paths
}

func TestTheTestKnowsEveryValue(t *testing.T) {
	known := values(t)
	if got, want := leaves(t, known), slices.Sorted(maps.Keys(known)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("values.yaml has %q, the test %q", got, want)
	}
}

// Each value, or its group, has a comment.
func TestEveryValueHasAComment(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart(), "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	commented := map[string]bool{}
	var path []string
	before := ""
	for line := range strings.Lines(string(content)) {
		if match := regexp.MustCompile(`^( *)(\w+):`).FindStringSubmatch(line); match != nil {
			path = append(path[:len(match[1])/2], match[2])
			commented[strings.Join(path, ".")] = strings.HasPrefix(strings.TrimSpace(before), "#")
		}
		before = line
	}
	plain := []string{"enabled", "annotations", "repository", "nodeSelector", "podAnnotations", "podLabels", "priorityClassName"}
	for _, name := range leaves(t, values(t)) {
		parts := strings.Split(name, ".")
		last := parts[len(parts)-1]
		spoken := slices.Contains(plain, last) || strings.Contains(name, ".resources.")
		for i := range parts {
			spoken = spoken || i > 0 && commented[strings.Join(parts[:i+1], ".")] || commented[parts[0]]
		}
		if !spoken {
			t.Errorf("%s has no comment", name)
		}
	}
}

func refused(t *testing.T, path string, value any, args ...string) {
	t.Helper()
	change, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"template", "postback", chart(), "--namespace", operator.Namespace, "--set-json", path + "=" + string(change)}, args...)
	_, err = helm(t, "", args...)
	if err == nil || !strings.Contains(err.Error(), "schema") {
		t.Errorf("%s=%s: %v", path, change, err)
	}
}

// The schema refuses every value with another type, and unknown values beside each.
func TestSchemaRefusesWhatIsNoValue(t *testing.T) {
	open := regexp.MustCompile(`^podSecurityContext|\.affinity$`)
	groups := map[string]bool{}
	for path, value := range values(t) {
		if open.MatchString(path) {
			continue
		}
		var wrong any = map[string]any{"a": map[string]any{}}
		if _, ok := value.(map[string]any); ok {
			wrong = "text"
		}
		t.Run(path, func(t *testing.T) { refused(t, path, wrong) })
		for group := path; strings.Contains(group, "."); {
			group = group[:strings.LastIndex(group, ".")]
			groups[group] = true
		}
	}
	for group := range groups {
		t.Run("beside "+group, func(t *testing.T) { refused(t, group+".unknownValue", true) })
	}
	refused(t, "unknownValue", true)
}

func TestSchemaRefusesBadValues(t *testing.T) {
	for path, value := range map[string]any{
		"image.tag": "v1:2", "image.pullPolicy": "Sometimes", "manager.image.digest": "sha256:1", "manager.image.repository": "",
		"manager.replicas": 0, "dispatcher.replicas": 1.5, "manager.extraArgs": []string{"leader-elect"}, "dispatcher.podDisruptionBudget.minAvailable": "some",
		"ingest.certificate.source": "CertManager", "ingest.service.type": "ExternalName", "signatureHeader": "A B",
		"manager.resources.limits": map[string]any{"memory": "lots"}, "dispatcher.resources.requests": map[string]any{"disk": "1Gi"},
		"dispatcher.autoscaling.cpu": "80%", "labels": map[string]any{"a": 1},
		"watchNamespaces": []string{"Partner"},
		"intake":          "kafka", "nats.url": "nats.nats:4222", "nats.replicas": 2, "nats.duplicateWindow": "2 minutes", "nats.maxBytes": 0, "nats.log.maxAge": "7d",
		"nats.log.maxBytes": "4Gi", "nats.groupCommit": "yes", "nats.caSecret": "Not A Name",
		"portal.url": "http://postbacks.example.com", "portal.enabled": true, "portal.httpRoute.enabled": true, "portal.ingress.tlsSecret": "", "portal.certificate.source": "CertManager",
		"portal.embed.origins":   []string{"https://*.example.com"},
		"nats.embedded.replicas": 2, "nats.embedded.storage.size": "much", "nats.embedded.syncInterval": "always",
	} {
		t.Run(path, func(t *testing.T) { refused(t, path, value) })
	}
}

// The JetStream intake requires the URL of a server.
func TestSchemaWantsAURLForJetStream(t *testing.T) {
	refused(t, "intake", "jetstream")
}

func TestSchemaRefusesAURLBesideAnEmbeddedServer(t *testing.T) {
	refused(t, "nats", map[string]any{"url": "nats://a:4222", "embedded": map[string]any{"enabled": true}}, "--set", "intake=jetstream")
}

// The schema is closed for all values, except those that only the API server validates.
func TestSchemaIsClosed(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart(), "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, at map[string]any)
	walk = func(path string, at map[string]any) {
		if _, closed := at["additionalProperties"]; at["type"] == "object" && !closed {
			t.Errorf("%s takes any property", path)
		}
		properties, _ := at["properties"].(map[string]any)
		for name, below := range properties {
			if below, ok := below.(map[string]any); ok && path+"/"+name != "/global" {
				walk(path+"/"+name, below)
			}
		}
	}
	walk("", schema)
}
