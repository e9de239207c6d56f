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
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// TestHostPolicy: the list of hosts applies to its namespace only, and a refusal names the host and the list.
func TestHostPolicy(t *testing.T) {
	kubectl(t, "", "apply", "-k", "host-policy")
	for _, namespace := range []string{"listed", "free", "empty"} {
		kubectl(t, "", "create", "namespace", namespace)
	}
	kubectl(t, "", "create", "configmap", "postback-hosts", "-n", "listed", "--from-literal=hosts=crm.example.com  .Partner.example")
	kubectl(t, "", "create", "configmap", "postback-hosts", "-n", "empty")
	apply := func(namespace, name, url, more string) error {
		manifest := fmt.Sprintf(`{apiVersion: postback.dev/v1alpha1, kind: Postback, metadata: {name: %s}, spec: {triggers: ["*"], url: %q%s}}`, name, url, more)
		_, _, err := cp.Kubectl(t.Context(), manifest, "apply", "-n", namespace, "-f", "-")
		return err
	}
	const refused = "is not among those that this namespace may use (ConfigMap postback-hosts)"
	// The API server applies a new policy and a new list a moment later.
	probes := 0
	waitRefused := func(url string) {
		t.Helper()
		NewWithT(t).Eventually(func() error {
			probes++
			return apply("listed", fmt.Sprint("probe-", probes), url, "")
		}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(MatchError(ContainSubstring(refused)))
	}
	waitRefused("https://elsewhere.example.com/")

	const oauth = `, auth: {oauth2: {tokenURL: %q, clientID: crm, clientSecretRef: {name: crm, key: secret}}}`
	for name, tt := range map[string]struct {
		namespace, url, more string
		refused              string
	}{
		"a listed host":                     {namespace: "listed", url: "https://crm.example.com/hooks"},
		"a listed host, in capitals":        {namespace: "listed", url: "https://CRM.example.com:8443/hooks"},
		"a host below a listed domain":      {namespace: "listed", url: "https://eu.crm.partner.example/hooks"},
		"a listed domain itself":            {namespace: "listed", url: "https://partner.example/hooks", refused: "partner.example"},
		"a listed host as a prefix":         {namespace: "listed", url: "https://crm.example.com.evil.test/hooks", refused: "crm.example.com.evil.test"},
		"a listed domain as a suffix":       {namespace: "listed", url: "https://evilpartner.example/", refused: "evilpartner.example"},
		"an address":                        {namespace: "listed", url: "https://[2001:db8::1]/", refused: "2001:db8::1"},
		"a token server that is not listed": {namespace: "listed", url: "https://crm.example.com/", more: fmt.Sprintf(oauth, "https://login.elsewhere.example/token"), refused: "login.elsewhere.example"},
		"a listed token server":             {namespace: "listed", url: "https://crm.example.com/", more: fmt.Sprintf(oauth, "https://login.partner.example/token")},
		"a namespace without a list":        {namespace: "free", url: "https://elsewhere.example.com/"},
		"a namespace with an empty list":    {namespace: "empty", url: "https://crm.example.com/", refused: "crm.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			err := apply(tt.namespace, "crm", tt.url, tt.more)
			switch {
			case tt.refused == "" && err != nil:
				t.Errorf("%s: %v", tt.url, err)
			case tt.refused != "" && (err == nil || !strings.Contains(err.Error(), "the host "+tt.refused+" "+refused)):
				t.Errorf("%s: got %v, want a refusal of %s", tt.url, err, tt.refused)
			}
		})
	}

	// A shorter list does not refuse changes of other fields.
	kubectl(t, "", "delete", "configmap", "postback-hosts", "-n", "listed")
	kubectl(t, "", "create", "configmap", "postback-hosts", "-n", "listed", "--from-literal=hosts=other.example")
	waitRefused("https://crm.example.com/")
	kubectl(t, "", "annotate", "postback", "crm", "-n", "listed", "postback.dev/send-test=lead.created/1")
	kubectl(t, "", "patch", "postback", "crm", "-n", "listed", "--type=merge", "-p", `{"spec":{"state":"Disabled"}}`)
	kubectl(t, "", "delete", "postback", "crm", "-n", "listed")
}
