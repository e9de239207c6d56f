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
	"fmt"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// naming has JSON for each field of a Postback that names another object.
var naming = map[string]string{
	"headers.valueFrom.secretKeyRef": `{"headers": [{"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": %q, "key": "k"}}}]}`,
	"auth.basic.secretRef":           `{"auth": {"basic": {"secretRef": {"name": %q}}}}`,
	"auth.bearer.secretKeyRef":       `{"auth": {"bearer": {"secretKeyRef": {"name": %q, "key": "k"}}}}`,
	"auth.oauth2.clientSecretRef":    `{"auth": {"oauth2": {"tokenURL": "https://id.example.com/token", "clientID": "crm", "clientSecretRef": {"name": %q, "key": "k"}}}}`,
	"tls.caSecretRef":                `{"tls": {"caSecretRef": {"name": %q, "key": "k"}}}`,
	"tls.clientCertificateSecretRef": `{"tls": {"clientCertificateSecretRef": {"name": %q}}}`,
	"secretRef":                      `{"secretRef": {"name": %q}}`,
}

// TestPartnersSendNoSecretsOfOthers tries each field that names a Secret, as each author.
func TestPartnersSendNoSecretsOfOthers(t *testing.T) {
	n := newTenant(t, "references", map[string]string{"secrets": "crm-token partner-*"})
	// This editor also sees signing keys, and may therefore get each Secret by its name.
	n.bind(portalEditor, "ClusterRole", portalKeyReader)
	all := references(reflect.TypeFor[v1alpha1.PostbackSpec](), "")
	if len(all) != len(naming) {
		t.Errorf("the fields are %q", all)
	}
	for _, path := range all {
		path = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/name"), "/", ".")
		fields := naming[path]
		if fields == "" {
			t.Errorf("no policy guards spec.%s: add it to config/portal/policies/references.yaml", path)
			continue
		}
		field, _, _ := strings.Cut("spec."+path, ".valueFrom")
		for _, author := range []string{portalEditor, kubectlEditor, platformEditor} {
			t.Run(path+" of "+author, func(t *testing.T) {
				for name, refused := range map[string]bool{"foreign": true, "crm-token2": true, "crm-token": false, "partner-key": false, "other-partner-key": true} {
					t.Run("Secret "+name, func(t *testing.T) {
						message := ""
						if refused {
							message = field + ": you may not s"
						}
						expect(t, n.authors[author].Create(t.Context(), n.postback(fmt.Sprintf(fields, name)), client.DryRunAll), message)
					})
				}
				mine := n.postback(`{}`)
				expect(t, n.authors[author].Create(t.Context(), mine), "")
				expect(t, n.try(n.authors[author], mine, `{"spec": `+fmt.Sprintf(fields, "foreign")+`}`), field+": you may not s")
				// Neither force nor the name of another field manager helps.
				applied := n.postback(fmt.Sprintf(fields, "foreign"))
				applied.SetName(mine.GetName())
				//nolint:staticcheck // The object has the kind as a user writes it, without an apply configuration.
				expect(t, n.authors[author].Patch(t.Context(), applied, client.Apply, client.ForceOwnership, client.FieldOwner("postback-manager")), field+": you may not s")
			})
		}
		t.Run(path+" of "+secretsLister, func(t *testing.T) {
			expect(t, n.authors[secretsLister].Create(t.Context(), n.postback(fmt.Sprintf(fields, "foreign")), client.DryRunAll), "")
		})
	}
}

// TestPartnersCannotRedirectSecretsOfThePlatform: the platform made a Postback that sends Secrets, which an editor changes.
func TestPartnersCannotRedirectSecretsOfThePlatform(t *testing.T) {
	n := newTenant(t, "redirects", nil)
	const header = `{"headers": [{"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "k"}}}]}`
	const oauth = `{"auth": {"oauth2": {"tokenURL": "https://id.example.com/token", "clientID": "crm", "clientSecretRef": {"name": "foreign", "key": "k"}}}}`
	const tls = `{"tls": {"caSecretRef": {"name": "foreign", "key": "ca"}, "clientCertificateSecretRef": {"name": "foreign"}}}`
	const shared = `{"secretRef": {"name": "foreign"}}`
	for _, test := range []struct{ name, platform, patch, message string }{
		{"another URL", header, `{"url": "https://evil.example/"}`, "spec.url: only the platform may change it, because the endpoint gets the Secret foreign (spec.headers)"},
		{"another path", header, `{"url": "https://crm.example.com/other"}`, "spec.url: only the platform"},
		{"another key of the Secret", header, `{"headers": [{"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "password"}}}]}`, "spec.headers: you may not send the Secret foreign"},
		{"another header", header, `{"headers": [{"name": "X-Other", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "k"}}}]}`, "spec.headers: you may not send"},
		{"the client's secret in a header", oauth, header, "spec.headers: you may not send the Secret foreign"},
		{"the client's secret as a bearer token", oauth, `{"auth": {"oauth2": null, "bearer": {"secretKeyRef": {"name": "foreign", "key": "k"}}}}`, "spec.auth.bearer.secretKeyRef: you may not send"},
		{"another token server", oauth, `{"auth": {"oauth2": {"tokenURL": "https://evil.example/"}}}`, "spec.auth: only the platform may change it"},
		{"more scopes", oauth, `{"auth": {"oauth2": {"scopes": ["admin"]}}}`, "spec.auth: only the platform may change it"},
		{"another endpoint for the token", oauth, `{"url": "https://evil.example/"}`, "spec.url: only the platform"},
		{"another endpoint for the client certificate", tls, `{"url": "https://evil.example/"}`, "spec.url: only the platform"},
		{"the public authorities for the client certificate", tls, `{"tls": {"caSecretRef": null}}`, "spec.tls: only the platform may change it"},
		{"another shared key", shared, `{"secretRef": {"name": "foreign-two"}}`, "spec.secretRef: you may not sign with the PostbackSecret foreign-two"},
		{"no reference, and another URL", header, `{"headers": null, "url": "https://mine.example/"}`, ""},
		{"pause", oauth, `{"state": "Paused"}`, ""},
		{"other triggers and a header of their own", header, `{"triggers": ["lead.created"], "headers": [{"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "k"}}}, {"name": "X-Own", "value": "1"}]}`, ""},
		{"no credentials", oauth, `{"auth": null}`, ""},
		{"a key of its own, and another URL", shared, `{"secretRef": null, "url": "https://mine.example/"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := n.postback(test.platform)
			n.create(o)
			expect(t, n.try(n.authors[portalEditor], o, `{"spec": `+test.patch+`}`), test.message)
		})
	}
	t.Run("a Postback of the same name with the platform's key", func(t *testing.T) {
		n.create(n.object("PostbackSecret", "signing", map[string]any{"spec": map[string]any{"source": "External"}}))
		o := n.postback(`{"secretRef": {"name": "signing"}}`)
		o.SetName("signing")
		expect(t, n.authors[portalEditor].Create(t.Context(), o), "spec.secretRef: you may not sign with the PostbackSecret signing")
	})
}

// TestPartnersMakeNoKeysOfForeignSecrets: a PostbackSecret signs with a Secret that its author may not read.
func TestPartnersMakeNoKeysOfForeignSecrets(t *testing.T) {
	n := newTenant(t, "keys-of-others", map[string]string{"secrets": "crm-token"})
	for _, test := range []struct{ name, author, spec, message string }{
		{"another Secret", kubectlEditor, `{"source": "External", "secretName": "foreign"}`, "spec.secretName: you may not sign with the Secret foreign"},
		{"the Secret of its name", kubectlEditor, `{"source": "External"}`, "spec.secretName: you may not sign with the Secret pbs"},
		{"a generated key in another Secret", kubectlEditor, `{"secretName": "foreign"}`, "spec.secretName: you may not sign with the Secret foreign"},
		{"a listed Secret", kubectlEditor, `{"source": "External", "secretName": "crm-token"}`, ""},
		{"a generated key", kubectlEditor, `{}`, ""},
		{"any Secret, for whom may list them", secretsLister, `{"source": "External", "secretName": "foreign"}`, ""},
		{"a generated key, in the portal", portalEditor, `{}`, "cannot create resource \"postbacksecrets\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := n.object("PostbackSecret", "pbs", map[string]any{"spec": decoded(t, test.spec)})
			expect(t, n.authors[test.author].Create(t.Context(), o, client.DryRunAll), test.message)
		})
	}
	o := n.object("PostbackSecret", "generated", map[string]any{"spec": map[string]any{}})
	n.create(o)
	for name, patch := range map[string]string{
		"another source later": `{"spec": {"source": "External"}}`,
		"another Secret later": `{"spec": {"secretName": "foreign"}}`,
	} {
		t.Run(name, func(t *testing.T) { expect(t, n.try(n.authors[kubectlEditor], o, patch), "is immutable") })
	}
}
