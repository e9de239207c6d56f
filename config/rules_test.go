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

package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	content := map[string]any{}
	if err := json.Unmarshal([]byte(text), &content); err != nil {
		t.Fatal(text, err)
	}
	return content
}

// TestPartnersStayWithinTheRules has a namespace for each rule.
func TestPartnersStayWithinTheRules(t *testing.T) {
	type attempt struct{ fields, message string }
	for _, test := range []struct {
		name     string
		rules    map[string]string
		attempts []attempt
	}{
		{"rule-hosts", map[string]string{"hosts": "crm.example.com  .Partner.example"}, []attempt{
			{`{"url": "https://crm.example.com/x"}`, ""},
			{`{"url": "https://CRM.example.com.:8443/x"}`, ""},
			{`{"url": "https://eu.partner.example"}`, ""},
			{`{"url": "https://partner.example"}`, "spec.url: the host partner.example is not among those that this namespace may use: choose one of crm.example.com, .partner.example"},
			{`{"url": "https://crm.example.com.evil.test"}`, "spec.url: the host crm.example.com.evil.test"},
			{`{"url": "https://evilpartner.example"}`, "spec.url: the host"},
			{`{"url": "https://[2001:db8::1]/"}`, "spec.url: the host 2001:db8::1"},
			{`{"auth": {"oauth2": {"tokenURL": "https://login.evil.test/", "clientID": "c", "clientSecretRef": {"name": "given", "key": "k"}}}}`, "spec.auth.oauth2.tokenURL: the host login.evil.test"},
		}},
		{"rule-denied", map[string]string{"deniedHosts": "internal.example .corp.example"}, []attempt{
			{`{"url": "https://crm.example.com/"}`, ""},
			{`{"url": "https://internal.example/"}`, "spec.url: the platform does not allow the host internal.example: choose another one"},
			{`{"url": "https://INTERNAL.example./"}`, "spec.url: the platform does not allow the host internal.example"},
			{`{"url": "https://git.corp.example:8443/"}`, "spec.url: the platform does not allow"},
			{`{"url": "https://ｉnternal.example/"}`, "spec.url: the platform does not allow"},
		}},
		{"rule-schemes", map[string]string{"schemes": "https"}, []attempt{
			{`{"url": "HTTPS://crm.example.com/"}`, ""},
			{`{"url": "http://crm.example.com/"}`, "spec.url: must start with https:// by the rules of the platform"},
			{`{"auth": {"oauth2": {"tokenURL": "http://id.example.com/", "clientID": "c", "clientSecretRef": {"name": "given", "key": "k"}}}}`, "spec.auth.oauth2.tokenURL: must start with https://"},
		}},
		{"rule-formats", map[string]string{"formats": "JSON CloudEvents"}, []attempt{
			{`{}`, ""},
			{`{"format": "CloudEvents"}`, ""},
			{`{"format": "Slack"}`, "spec.format: the platform does not allow Slack: choose one of JSON, CloudEvents"},
		}},
		{"rule-numbers", map[string]string{
			"limits.perSecond": "10", "limits.maxPending": "500", "retry.maxAttempts": "20", "history.delivered": "50",
		}, []attempt{
			{`{}`, "spec.limits.perSecond: must be set to at most 10 by the rules of the platform: it is without a limit"},
			{`{"limits": {"perSecond": 10, "maxPending": 500}, "retry": {"maxAttempts": 20}, "history": {"delivered": 0}}`, ""},
			{`{"limits": {"perSecond": 11, "maxPending": 500}, "retry": {"maxAttempts": 20}, "history": {"delivered": 0}}`, "spec.limits.perSecond: must be set to at most 10 by the rules of the platform: it is 11"},
			{`{"limits": {"perSecond": 10}, "retry": {"maxAttempts": 20}, "history": {"delivered": 0}}`, "spec.limits.maxPending: must be set to at most 500 by the rules of the platform: it is 10000"},
			{`{"limits": {"perSecond": 10, "maxPending": 1}, "retry": {"maxAttempts": 0}, "history": {"delivered": 0}}`, "spec.retry.maxAttempts: must be set to at most 20"},
			{`{"limits": {"perSecond": 10, "maxPending": 1}, "retry": {"maxAttempts": 1}}`, "spec.history.delivered: must be set to at most 50 by the rules of the platform: it is 100"},
		}},
		{"rule-more-numbers", map[string]string{"limits.maxConcurrent": "4", "history.failed": "10"}, []attempt{
			{`{"history": {"failed": 10}}`, "spec.limits.maxConcurrent: must be set to at most 4"},
			{`{"limits": {"maxConcurrent": 5}, "history": {"failed": 10}}`, "spec.limits.maxConcurrent: must be set to at most 4"},
			{`{"limits": {"maxConcurrent": 4}}`, "spec.history.failed: must be set to at most 10"},
			{`{"limits": {"maxConcurrent": 4}, "history": {"failed": 10}}`, ""},
		}},
		{"rule-times", map[string]string{"timeout": "5s", "retry.giveUpAfter": "72h", "history.ttl": "24h"}, []attempt{
			{`{}`, "spec.timeout: must be set to at most 5s"},
			{`{"timeout": "5s", "history": {"ttl": "24h"}}`, "spec.retry.giveUpAfter: must be set to at most 72h by the rules of the platform: it is without a limit"},
			{`{"timeout": "5s", "history": {"ttl": "25h"}, "retry": {"giveUpAfter": "72h"}}`, "spec.history.ttl: must be set to at most 24h"},
			{`{"timeout": "5s", "history": {"ttl": "24h"}, "retry": {"giveUpAfter": "4320m"}}`, ""},
		}},
		{"rule-mistake", map[string]string{"limits.perSecond": "ten"}, []attempt{{`{}`, "denied request"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := test.rules
			if test.name != "rule-mistake" {
				rules["secrets"] = "given"
			}
			n := newTenant(t, test.name, rules)
			for _, attempt := range test.attempts {
				t.Run(attempt.fields, func(t *testing.T) {
					for _, author := range []string{portalEditor, kubectlEditor, secretsLister} {
						t.Run("by the "+author, func(t *testing.T) {
							expect(t, n.authors[author].Create(t.Context(), n.postback(attempt.fields), client.DryRunAll), attempt.message)
						})
					}
					if !strings.Contains(attempt.fields, "given") {
						expect(t, n.authors[platformEditor].Create(t.Context(), n.postback(attempt.fields), client.DryRunAll), "")
					}
					// The platform made it, or the rule was made later.
					present := n.postback(attempt.fields)
					n.create(present)
					expect(t, n.try(n.authors[portalEditor], present, `{"spec": {"state": "Paused", "displayName": "CRM"}}`), "")
				})
			}
		})
	}
}

// TestPartnersStayWithinTheRulesByUpdates: an editor cannot change a Postback into one that they may not create.
func TestPartnersStayWithinTheRulesByUpdates(t *testing.T) {
	n := newTenant(t, "rule-updates", map[string]string{
		"hosts": "crm.example.com", "schemes": "https", "formats": "JSON", "limits.perSecond": "10", "retry.giveUpAfter": "72h", "secrets": "given",
	})
	const within = `{"limits": {"perSecond": 5}, "retry": {"giveUpAfter": "1h"}, "auth": {"oauth2": {"tokenURL": "https://crm.example.com/token", "clientID": "c", "clientSecretRef": {"name": "given", "key": "k"}}}}`
	for _, test := range []struct{ patch, message string }{
		{`{"url": "https://evil.example/"}`, "spec.url: the host evil.example"},
		{`{"url": "http://crm.example.com/"}`, "spec.url: must start with https://"},
		{`{"auth": {"oauth2": {"tokenURL": "https://evil.example/"}}}`, "spec.auth.oauth2.tokenURL: the host evil.example"},
		{`{"format": "Slack"}`, "spec.format: the platform does not allow Slack"},
		{`{"limits": {"perSecond": 11}}`, "spec.limits.perSecond: must be set to at most 10"},
		{`{"limits": null}`, "spec.limits.perSecond: must be set to at most 10 by the rules of the platform: it is without a limit"},
		{`{"limits": {"perSecond": 0}}`, "spec.limits.perSecond: must be set"},
		{`{"retry": null}`, "spec.retry.giveUpAfter: must be set to at most 72h"},
		{`{"limits": {"perSecond": 10}}`, ""},
	} {
		t.Run(test.patch, func(t *testing.T) {
			o := n.postback(within)
			expect(t, n.authors[portalEditor].Create(t.Context(), o), "")
			expect(t, n.try(n.authors[portalEditor], o, `{"spec": `+test.patch+`}`), test.message)
		})
	}
}

// TestPartnersLeaveFieldsOfThePlatform: the platform can reserve each field of a Postback.
func TestPartnersLeaveFieldsOfThePlatform(t *testing.T) {
	values := map[string]string{
		"url": `"https://evil.example/"`, "triggers": `["lead.created"]`, "displayName": `"CRM"`, "state": `"Paused"`, "filter": `"true"`, "format": `"Slack"`,
		"secretRef": `{"name": "given"}`, "headers": `[{"name": "X-Own", "value": "1"}]`, "auth": `{"bearer": {"secretKeyRef": {"name": "given", "key": "k"}}}`,
		"tls": `{"caSecretRef": {"name": "given", "key": "k"}}`, "signatures": `["Dub"]`, "timeout": `"9s"`, "retry": `{"maxAttempts": 1}`,
		"limits": `{"perSecond": 1}`, "history": `{"failed": 1}`,
	}
	var all []string
	for i := range reflect.TypeFor[v1alpha1.PostbackSpec]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[v1alpha1.PostbackSpec]().Field(i).Tag.Get("json"), ",")
		all = append(all, name)
	}
	closed := newTenant(t, "all-fields", map[string]string{"secrets": "given", "platformFields": strings.Join(all, " ")})
	open := newTenant(t, "no-fields", map[string]string{"secrets": "given"})
	for _, field := range all {
		t.Run(field, func(t *testing.T) {
			for n, message := range map[*tenant]string{closed: "spec." + field + ": only the platform may set this field", open: ""} {
				t.Run("in "+n.namespace, func(t *testing.T) {
					o := n.postback(`{}`)
					n.create(o)
					expect(t, n.try(n.authors[portalEditor], o, `{"spec": {"`+field+`": `+values[field]+`}}`), message)
				})
			}
		})
	}
	t.Run("create", func(t *testing.T) {
		expect(t, closed.authors[portalEditor].Create(t.Context(), closed.postback(`{}`)), "only the platform may set this field")
		expect(t, closed.authors[platformEditor].Create(t.Context(), closed.postback(`{}`)), "")
	})
}
