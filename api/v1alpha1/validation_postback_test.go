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

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestPostbackURL(t *testing.T) {
	url := func(s string) string { return fmt.Sprintf("spec: {url: %q}", s) }
	const host = "must be a valid URL with a host, such as https://example.com/hooks"
	runCreates(t, validPostback, []manifestCase{
		{"absent", `spec: {url: null}`, []string{"spec.url", "Required value"}},
		{"empty", url(""), []string{"spec.url", "at least 1"}},
		{"no scheme", url("example.com/hooks"), []string{"spec.url", "starts with https://"}},
		{"path only", url("/hooks"), []string{"spec.url", "starts with https://"}},
		{"scheme without slashes", url("https:example.com"), []string{"spec.url", "starts with https://"}},
		{"ftp", url("ftp://example.com/hooks"), []string{"spec.url", "starts with https://"}},
		{"javascript", url("javascript://example.com/%0Aalert(1)"), []string{"spec.url", "starts with https://"}},
		{"no host", url("https:///hooks"), []string{"spec.url", host}},
		{"port only", url("https://:443/hooks"), []string{"spec.url", host}},
		{"port not a number", url("https://example.com:https/hooks"), []string{"spec.url", host}},
		{"user", url("https://me@example.com/hooks"), []string{"spec.url", "user name", "valueFrom.secretKeyRef"}},
		{"user and password", url("https://me:secret@example.com/"), []string{"spec.url", "password", "valueFrom.secretKeyRef"}},
		{"fragment", url("https://example.com/hooks#top"), []string{"spec.url", "fragment", "remove the part from #"}},
		{"empty fragment", url("https://example.com/hooks#"), []string{"spec.url", "remove the part from #"}},
		{"space", url("https://example.com/my hooks"), []string{"spec.url", "percent-encode"}},
		{"space before", url(" https://example.com/hooks"), []string{"spec.url", "percent-encode"}},
		{"tab", url("https://example.com/\thooks"), []string{"spec.url", "percent-encode"}},
		{"line break", url("https://example.com/hooks\r\nX: y"), []string{"spec.url", "percent-encode"}},
		{"DEL", url("https://example.com/\x7f"), []string{"spec.url", "percent-encode"}},
		{"placeholder", url("https://<your-host>/hooks"), []string{"spec.url", "DNS name"}},
		{"empty label", url("https://exa_mple..com"), []string{"spec.url", "DNS name"}},
		{"wildcard", url("https://*.example.com"), []string{"spec.url", "DNS name"}},
		{"zone", url("https://[fe80::1%25eth0]/"), []string{"spec.url", "DNS name"}},
		{"exclamation mark in the scheme", url("ht!tp:/x"), []string{"spec.url", "starts with https://"}},
		{"port 0", url("https://example.com:0/"), []string{"spec.url", "port from 1 to 65535"}},
		{"port 99999", url("https://example.com:99999/"), []string{"spec.url", "port from 1 to 65535"}},
		{"port 018080", url("https://example.com:018080/"), []string{"spec.url", "without leading zeros"}},
		{"two numbers", url("http://127.1"), []string{"spec.url", "four decimal numbers"}},
		{"one number", url("http://2130706433/"), []string{"spec.url", "four decimal numbers"}},
		{"umlauts", url("https://BÜCHER.test/hooks"), nil},
		{"underscore", url("http://my_service.ns.svc:65535/"), nil},
		{"IPv4", url("https://192.0.2.1:80/"), nil},
		{"full stop at the end", url("https://example.com."), nil},
		{"too long", url("https://example.com/" + strings.Repeat("x", 2029)), []string{"spec.url", "2048"}},
		{"a number", `spec: {url: 1}`, []string{"spec.url", "must be of type string"}},

		{"as long as can be", url("https://example.com/" + strings.Repeat("x", 2028)), nil},
		{"upper-case scheme", url("HTTPS://Example.com"), nil},
		{"http, which the operator's flag decides", url("http://example.com/hooks"), nil},
		{"port and query with @", url("https://example.com:8443/hooks?to=me@example.com"), nil},
		{"IPv6", url("https://[2001:db8::1]:8443/hooks"), nil},
	})
}

func TestPostbackTriggers(t *testing.T) {
	const remedy = "must be an event type such as lead.created, a prefix such as sale.*, or *"
	triggers := func(s string) string { return fmt.Sprintf("spec: {triggers: %s}", s) }
	cases := []manifestCase{
		{"absent", `spec: {triggers: null}`, []string{"spec.triggers", "Required value"}},
		{"empty list", triggers(`[]`), []string{"spec.triggers", "at least 1"}},
		{"twice", triggers(`[lead.created, sale.created, lead.created]`), []string{"spec.triggers[2]", "Duplicate value"}},
		{"empty", triggers(`[""]`), []string{"spec.triggers[0]", "at least 1"}},
		{"too long", triggers("[" + strings.Repeat("a", 66) + "]"), []string{"spec.triggers[0]", "65"}},
		{"a number", triggers(`[1]`), []string{"spec.triggers[0]", "must be of type string"}},
		{"not a list", triggers(`lead.created`), []string{"spec.triggers", "must be of type array"}},
		{"too many", triggers(numbered(65)), []string{"spec.triggers", "at most 64"}},

		{"as many as can be", triggers(numbered(64)), nil},
		{"as long as can be", triggers("[" + strings.Repeat("a", 63) + ".*]"), nil},
		{"every form", triggers(`["*", sale.*, partner.sale.*, lead.created, ping, a-b_c.D9]`), nil},
	}
	for _, malformed := range []string{
		"lead created", "*.created", "sale.*.created", "sale*", "**", ".lead", "lead.", "lead..created", "-lead",
		"lead-", "sale.**", "lead/created", "léad", "lead.created\n",
	} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("malformed %q", malformed), triggers(fmt.Sprintf("[%q]", malformed)),
			[]string{"spec.triggers[0]", remedy},
		})
	}
	runCreates(t, validPostback, cases)
}

func numbered(n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf("event%d", i)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func TestPostbackHeaders(t *testing.T) {
	headers := func(s string) string { return fmt.Sprintf("spec: {headers: [%s]}", s) }
	secret := func(name, key string) string {
		return headers(fmt.Sprintf("{name: X-Key, valueFrom: {secretKeyRef: {name: %q, key: %q}}}", name, key))
	}
	const exactlyOne = "must have exactly one of value and valueFrom"
	cases := []manifestCase{
		{"no name", headers(`{value: a}`), []string{"spec.headers[0].name", "Required value"}},
		{"empty name", headers(`{name: "", value: a}`), []string{"spec.headers[0].name", "at least 1"}},
		{"name too long", headers("{name: " + strings.Repeat("x", 65) + ", value: a}"), []string{"spec.headers[0].name", "64"}},
		{"both", headers(`{name: X-A, value: a, valueFrom: {secretKeyRef: {name: s, key: k}}}`), []string{"spec.headers[0]", exactlyOne}},
		{"neither", headers(`{name: X-A}`), []string{"spec.headers[0]", exactlyOne}},
		{"valueFrom without a source", headers(`{name: X-A, valueFrom: {}}`), []string{"spec.headers[0].valueFrom.secretKeyRef", "Required value"}},
		{"line feed", headers(`{name: X-A, value: "a\nX-B: b"}`), []string{"spec.headers[0].value", "line breaks"}},
		{"carriage return", headers(`{name: X-A, value: "a\rX-B: b"}`), []string{"spec.headers[0].value", "line breaks"}},
		{"NUL", headers(`{name: X-A, value: "a\u0000"}`), []string{"spec.headers[0].value", "control characters"}},
		{"space before", headers(`{name: X-A, value: " a"}`), []string{"spec.headers[0].value", "space or tab", "remove it"}},
		{"space after", headers(`{name: X-A, value: "a "}`), []string{"spec.headers[0].value", "space or tab", "remove it"}},
		{"tab after", headers(`{name: X-A, value: "a\t"}`), []string{"spec.headers[0].value", "space or tab", "remove it"}},
		{"value too long", headers("{name: X-A, value: " + strings.Repeat("x", 4097) + "}"), []string{"spec.headers[0].value", "4096"}},
		{"twice", headers(`{name: X-A, value: a}, {name: X-A, value: b}`), []string{"spec.headers[1]", "Duplicate value"}},
		{"twice in different case", headers(`{name: X-A, value: a}, {name: x-a, value: b}`), []string{"spec.headers", "must not name a header twice", "without case"}},
		{"too many", "spec: {headers: " + numberedHeaders(33) + "}", []string{"spec.headers", "at most 32"}},
		{"Secret of a malformed name", secret("Not_A_Name", "k"), []string{"spec.headers[0].valueFrom.secretKeyRef.name", "lower-case"}},
		{"Secret without a name", secret("", "k"), []string{"spec.headers[0].valueFrom.secretKeyRef.name", "at least 1"}},
		{"malformed key", secret("s", "a/b"), []string{"spec.headers[0].valueFrom.secretKeyRef.key", "letters, digits, -, _ and ."}},

		{"as many as can be", "spec: {headers: " + numberedHeaders(32) + "}", nil},
		{"as long as can be", headers("{name: " + strings.Repeat("x", 64) + ", value: " + strings.Repeat("x", 4096) + "}"), nil},
		{"empty value", headers(`{name: X-A, value: ""}`), nil},
		{"Authorization from a Secret", headers(`{name: Authorization, valueFrom: {secretKeyRef: {name: crm.token, key: .my_key}}}`), nil},
		{"tab and unicode in the value", headers(`{name: X-A, value: "a\tß"}`), nil},
	}
	for _, malformed := range []string{"X A", "X:A", "X-A\r\nX-B", "Ü", "X(A)", "X/A"} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("malformed name %q", malformed), headers(fmt.Sprintf("{name: %q, value: a}", malformed)),
			[]string{"spec.headers[0].name", "must be an HTTP header name"},
		})
	}
	for _, reserved := range []string{
		"Host", "host", "HOST", "content-length", "Content-Type", "CONTENT-ENCODING", "User-Agent", "Dub-Signature",
		"dub-signature", "webhook-id", "WEBHOOK-x", "Webhook-Signature", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Tenant", "proxy-x",
		"TE", "Trailer", "transfer-encoding", "Upgrade", "Expect",
	} {
		cases = append(cases, manifestCase{
			"reserved " + reserved, headers(fmt.Sprintf("{name: %s, value: a}", reserved)),
			[]string{"spec.headers[0].name", "is reserved", "choose another name"},
		})
	}
	runCreates(t, validPostback, cases)
}

func numberedHeaders(n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf("{name: X-%d, value: a}", i)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func TestPostbackRest(t *testing.T) {
	runCreates(t, validPostback, []manifestCase{
		{"no spec", `spec: null`, []string{"spec", "Required value"}},
		{"unknown state", `spec: {state: Stopped}`, []string{"spec.state", `"Enabled", "Paused", "Disabled"`}},
		{"state in lower case", `spec: {state: paused}`, []string{"spec.state", `"Enabled", "Paused", "Disabled"`}},
		{"unknown signature", `spec: {signatures: [Svix]}`, []string{"spec.signatures[0]", `"Dub", "StandardWebhooks"`}},
		{"no signature", `spec: {signatures: []}`, []string{"spec.signatures", "at least 1"}},
		{"signature twice", `spec: {signatures: [Dub, Dub]}`, []string{"spec.signatures[1]", "Duplicate value"}},
		{"unknown field", `spec: {urls: a}`, []string{"unknown field", "spec.urls"}},
		{"unknown field below", `spec: {retry: {max: 1}}`, []string{"unknown field", "spec.retry.max"}},
		{"displayName too long", "spec: {displayName: " + strings.Repeat("x", 101) + "}", []string{"spec.displayName", "100"}},
		{"displayName with a line break", `spec: {displayName: "a\nb"}`, []string{"spec.displayName", "line breaks"}},
		{"secretRef without a name", `spec: {secretRef: {}}`, []string{"spec.secretRef.name", "Required value"}},
		{"secretRef of a malformed name", `spec: {secretRef: {name: My_Key}}`, []string{"spec.secretRef.name", "lower-case"}},
		{"maxAttempts below 0", `spec: {retry: {maxAttempts: -1}}`, []string{"spec.retry.maxAttempts", "greater than or equal to 0"}},
		{"maxAttempts too large", `spec: {retry: {maxAttempts: 1001}}`, []string{"spec.retry.maxAttempts", "less than or equal to 1000"}},
		{"maxPending 0", `spec: {limits: {maxPending: 0}}`, []string{"spec.limits.maxPending", "greater than or equal to 1"}},
		{"maxPending too large", `spec: {limits: {maxPending: 100001}}`, []string{"spec.limits.maxPending", "less than or equal to 100000"}},
		{"name too long", "metadata: {name: " + strings.Repeat("x", 64) + "}", []string{"metadata.name", "at most 63"}},

		{"name as long as can be", "metadata: {name: " + strings.Repeat("x", 63) + "}", nil},
		{"everything", `
spec:
  displayName: Acme CRM ÄÖ
  state: Paused
  secretRef: {name: shared.signing}
  signatures: [StandardWebhooks]
  timeout: 30s
  retry: {maxAttempts: 1000, giveUpAfter: 8760h}
  limits: {maxPending: 100000}`, nil},
		{"the lower bounds", `
spec:
  displayName: ""
  state: Disabled
  signatures: [Dub, StandardWebhooks]
  timeout: 1s
  retry: {maxAttempts: 0, giveUpAfter: 0s}
  limits: {maxPending: 1}`, nil},
		{"other units", `spec: {timeout: 1500ms, retry: {giveUpAfter: 1h30m0.5s}}`, nil},
	})
}

func TestPostbackDurations(t *testing.T) {
	var cases []manifestCase
	const timeout, giveUpAfter = "must be a duration from 1s to 30s, such as 10s", "must be a duration from 0s (never give up) to 8760h"
	for _, bad := range []string{"-1s", "0s", "999ms", "30.001s", "24h", "10", "10 seconds", "", "ten", "P1D", "1s1", "9999999h"} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("timeout %q", bad), fmt.Sprintf("spec: {timeout: %q}", bad), []string{"spec.timeout", timeout},
		})
	}
	for _, bad := range []string{"-1s", "8760h0m1s", "never", "1d", "999999h"} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("giveUpAfter %q", bad), fmt.Sprintf("spec: {retry: {giveUpAfter: %q}}", bad),
			[]string{"spec.retry.giveUpAfter", giveUpAfter},
		})
	}
	cases = append(cases,
		manifestCase{"timeout too long a text", `spec: {timeout: 1s1s1s1s1s1s1s1s1s1s1s}`, []string{"spec.timeout", "20"}},
		manifestCase{"timeout a number", `spec: {timeout: 10}`, []string{"spec.timeout", "must be of type string"}},
	)
	runCreates(t, validPostback, cases)
}
