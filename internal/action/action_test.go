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

package action

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/endpoint"
)

func TestManagedBy(t *testing.T) {
	tests := map[string]struct {
		labels, annotations map[string]string
		tool, name          string
	}{
		"nobody": {map[string]string{"app.kubernetes.io/managed-by": "kubectl"}, nil, "", ""},
		"Argo CD by annotation": {
			nil, map[string]string{"argocd.argoproj.io/tracking-id": "partners:postback.dev/Postback:acme/crm"}, "Argo CD", "partners",
		},
		"Argo CD by label": {map[string]string{"argocd.argoproj.io/instance": "partners"}, nil, "Argo CD", "partners"},
		"Flux": {
			map[string]string{"kustomize.toolkit.fluxcd.io/name": "partners", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}, nil, "Flux", "partners",
		},
		"Flux with Helm": {
			map[string]string{"helm.toolkit.fluxcd.io/name": "acme", "app.kubernetes.io/managed-by": "Helm"},
			map[string]string{"meta.helm.sh/release-name": "acme"},
			"Flux", "acme",
		},
		"Helm": {map[string]string{"app.kubernetes.io/managed-by": "Helm"}, map[string]string{"meta.helm.sh/release-name": "acme"}, "Helm", "acme"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tool, by := ManagedBy(&metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations})
			if tool != test.tool || by != test.name {
				t.Errorf("%q %q", tool, by)
			}
		})
	}
}

func TestCheckTest(t *testing.T) {
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Name: "crm"}, Spec: v1alpha1.PostbackSpec{Triggers: []v1alpha1.Trigger{"lead.created", "sale.*"}}}
	tests := map[string]struct{ eventType, data, want string }{
		"selected":       {"sale.refund", "", ""},
		"with data":      {"lead.created", `{"a":1}`, ""},
		"not a type":     {"sale.*", "", `"sale.*" is not an event type, such as lead.created`},
		"not selected":   {"click.created", "", `no trigger of postback "crm" selects click.created: its triggers are lead.created, sale.*`},
		"no object":      {"lead.created", `[]`, "the data of the test event: must be an object: put the value into one"},
		"not JSON":       {"lead.created", `{"a":}`, "the data of the test event: /a: missing value after object name at byte 5: send valid JSON (RFC 8259)"},
		"too much of it": {"lead.created", `{} {}`, "the data of the test event: something follows the JSON document: send one event, or several in an array"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var data []byte
			if test.data != "" {
				data = []byte(test.data)
			}
			got := ""
			if err := CheckTest(p, test.eventType, data); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestTokensDiffer(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC)
	if a, b := Token(now), Token(now.Add(1)); a == b || a != "2026-11-26T12:00:00.123456789Z" {
		t.Errorf("%s %s", a, b)
	}
}

func TestURL(t *testing.T) {
	const masked = "https://example.com/?k=" + endpoint.Hidden
	for text, want := range map[string]struct{ url, mistake string }{
		"":                           {},
		"example.com":                {url: "https://example.com"},
		"example.com:8443/hooks?a=b": {url: "https://example.com:8443/hooks?a=b"},
		"[2001:db8::1]:8443/hooks":   {url: "https://[2001:db8::1]:8443/hooks"},
		"http://example.com/hooks":   {url: "http://example.com/hooks"},
		"ht!tp:/x":                   {mistake: "not a valid URL"},
		"mailto:partner@example.com": {mistake: "not a valid URL"},
		"ftp://example.com/hooks":    {mistake: "starts with https://"},
		"https://<your-host>/hooks":  {mistake: "has a host"},
		"exa_mple..com/hooks":        {mistake: "has a host"},
		"example.com:99999/hooks":    {mistake: "port"},
		masked:                       {mistake: "write the value that belongs there"},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := URL(text)
			switch {
			case want.mistake == "" && (err != nil || got != want.url):
				t.Errorf("got %q, %v", got, err)
			case want.mistake != "" && (err == nil || !strings.Contains(err.Error(), want.mistake)):
				t.Errorf("got %q, %v, want an error with %q", got, err, want.mistake)
			}
		})
	}
}
