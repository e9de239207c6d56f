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

func TestPostbackFilterAndFormat(t *testing.T) {
	runCreates(t, validPostback, []manifestCase{
		{"empty filter", `spec: {filter: ""}`, []string{"spec.filter", "at least 1"}},
		{"filter too long", "spec: {filter: " + strings.Repeat("x", 4097) + "}", []string{"spec.filter", "4096"}},
		{"filter a flag", `spec: {filter: true}`, []string{"spec.filter", "must be of type string"}},
		{"unknown format", `spec: {format: XML}`, []string{"spec.format", `"JSON", "CloudEvents", "Slack"`}},
		{"format in lower case", `spec: {format: slack}`, []string{"spec.format", `"JSON", "CloudEvents", "Slack"`}},

		{"filter as long as can be", "spec: {filter: " + strings.Repeat("x", 4096) + "}", nil},
		{"filter of several lines", `spec: {filter: "event.data.a > 1 &&\n  event.id != ''"}`, nil},
		// The manager compiles filters, because its error names the position.
		{"filter that does not compile", `spec: {filter: "event.data.a >"}`, nil},
		{"JSON", `spec: {format: JSON}`, nil},
		{"CloudEvents", `spec: {format: CloudEvents}`, nil},
		{"Slack", `spec: {format: Slack}`, nil},
	})
}

func TestPostbackLimitsAndHistory(t *testing.T) {
	const ttl = "must be a duration from 1m to 8760h (a year), such as 168h"
	cases := []manifestCase{
		{"maxConcurrent 0", `spec: {limits: {maxConcurrent: 0}}`, []string{"spec.limits.maxConcurrent", "greater than or equal to 1"}},
		{"maxConcurrent too large", `spec: {limits: {maxConcurrent: 1001}}`, []string{"spec.limits.maxConcurrent", "less than or equal to 1000"}},
		{"perSecond below 0", `spec: {limits: {perSecond: -1}}`, []string{"spec.limits.perSecond", "greater than or equal to 0"}},
		{"perSecond too large", `spec: {limits: {perSecond: 10001}}`, []string{"spec.limits.perSecond", "less than or equal to 10000"}},
		{"perSecond a fraction", `spec: {limits: {perSecond: 0.5}}`, []string{"spec.limits.perSecond", "must be of type integer"}},
		{"delivered below 0", `spec: {history: {delivered: -1}}`, []string{"spec.history.delivered", "greater than or equal to 0"}},
		{"delivered too large", `spec: {history: {delivered: 10001}}`, []string{"spec.history.delivered", "less than or equal to 10000"}},
		{"failed below 0", `spec: {history: {failed: -1}}`, []string{"spec.history.failed", "greater than or equal to 0"}},
		{"failed too large", `spec: {history: {failed: 10001}}`, []string{"spec.history.failed", "less than or equal to 10000"}},
		{"unknown field", `spec: {history: {keep: 1}}`, []string{"unknown field", "spec.history.keep"}},

		{"the lower bounds", `spec: {limits: {maxConcurrent: 1, perSecond: 0}, history: {delivered: 0, failed: 0, ttl: 1m}}`, nil},
		{"the upper bounds", `spec: {limits: {maxConcurrent: 1000, perSecond: 10000}, history: {delivered: 10000, failed: 10000, ttl: 8760h}}`, nil},
		{"nothing said", `spec: {limits: {}, history: {}}`, nil},
	}
	for _, bad := range []string{"-1m", "0s", "59s", "8760h0m1s", "7d", "168", "", "forever"} {
		cases = append(cases, manifestCase{fmt.Sprintf("ttl %q", bad), fmt.Sprintf("spec: {history: {ttl: %q}}", bad), []string{"spec.history.ttl", ttl}})
	}
	runCreates(t, validPostback, cases)
}

func TestPostbackTLS(t *testing.T) {
	runCreates(t, validPostback, []manifestCase{
		{"nothing in it", `spec: {tls: {}}`, []string{"spec.tls", "at least one of caSecretRef and clientCertificateSecretRef"}},
		{"CA without a key", `spec: {tls: {caSecretRef: {name: ca}}}`, []string{"spec.tls.caSecretRef.key", "Required value"}},
		{"CA without a name", `spec: {tls: {caSecretRef: {key: ca.crt}}}`, []string{"spec.tls.caSecretRef.name", "Required value"}},
		{"CA of a malformed name", `spec: {tls: {caSecretRef: {name: My_CA, key: ca.crt}}}`, []string{"spec.tls.caSecretRef.name", "lower-case"}},
		{"CA of a malformed key", `spec: {tls: {caSecretRef: {name: ca, key: a/b}}}`, []string{"spec.tls.caSecretRef.key", "letters, digits, -, _ and ."}},
		{"client certificate without a name", `spec: {tls: {clientCertificateSecretRef: {}}}`, []string{"spec.tls.clientCertificateSecretRef.name", "Required value"}},
		{"client certificate of a malformed name", `spec: {tls: {clientCertificateSecretRef: {name: My_Cert}}}`, []string{"spec.tls.clientCertificateSecretRef.name", "lower-case"}},
		{"no verification", `spec: {tls: {insecureSkipVerify: true}}`, []string{"unknown field", "spec.tls.insecureSkipVerify"}},

		{"CA", `spec: {tls: {caSecretRef: {name: ca, key: ca.crt}}}`, nil},
		{"client certificate", `spec: {tls: {clientCertificateSecretRef: {name: client}}}`, nil},
		{"both of one Secret", `spec: {tls: {caSecretRef: {name: client, key: ca.crt}, clientCertificateSecretRef: {name: client}}}`, nil},
	})
}

func TestPostbackAuth(t *testing.T) {
	oauth2 := func(fields string) string {
		return "spec: {auth: {oauth2: {clientID: postback, clientSecretRef: {name: s, key: k}, " + fields + "}}}"
	}
	url := func(s string) string { return oauth2(fmt.Sprintf("tokenURL: %q", s)) }
	const (
		exactlyOne = "must have exactly one of basic, bearer and oauth2"
		bearer     = `bearer: {secretKeyRef: {name: s, key: k}}`
		both       = "auth sets the header Authorization: remove either auth or that header"
		good       = "tokenURL: https://auth.example.com/token"
		tokenURL   = "spec.auth.oauth2.tokenURL"
		absolute   = "must be an absolute URL without user name, password, fragment or spaces"
	)
	cases := []manifestCase{
		{"none", `spec: {auth: {}}`, []string{"spec.auth", exactlyOne}},
		{"two", "spec: {auth: {basic: {secretRef: {name: s}}, " + bearer + "}}", []string{"spec.auth", exactlyOne}},
		{"three", "spec: {auth: {basic: {secretRef: {name: s}}, " + bearer + ", oauth2: {clientID: a, clientSecretRef: {name: s, key: k}, " + good + "}}}", []string{"spec.auth", exactlyOne}},
		{"with a header", "spec: {auth: {" + bearer + "}, headers: [{name: Authorization, value: x}]}", []string{"spec", both}},
		{"with a header in lower case", "spec: {auth: {" + bearer + "}, headers: [{name: X-A, value: x}, {name: authorization, value: x}]}", []string{"spec", both}},
		{"basic without a Secret", `spec: {auth: {basic: {}}}`, []string{"spec.auth.basic.secretRef", "Required value"}},
		{"basic of a malformed name", `spec: {auth: {basic: {secretRef: {name: My_Secret}}}}`, []string{"spec.auth.basic.secretRef.name", "lower-case"}},
		{"bearer without a Secret", `spec: {auth: {bearer: {}}}`, []string{"spec.auth.bearer.secretKeyRef", "Required value"}},
		{"bearer without a key", `spec: {auth: {bearer: {secretKeyRef: {name: s}}}}`, []string{"spec.auth.bearer.secretKeyRef.key", "Required value"}},
		{"a token in the clear", `spec: {auth: {bearer: {token: x}}}`, []string{"unknown field", "spec.auth.bearer.token"}},
		{"OAuth 2.0 without a URL", oauth2("audience: a"), []string{tokenURL, "Required value"}},
		{"OAuth 2.0 without a client", "spec: {auth: {oauth2: {" + good + ", clientSecretRef: {name: s, key: k}}}}", []string{"spec.auth.oauth2.clientID", "Required value"}},
		{"OAuth 2.0 without a secret", "spec: {auth: {oauth2: {" + good + ", clientID: a}}}", []string{"spec.auth.oauth2.clientSecretRef", "Required value"}},
		{"client too long", "spec: {auth: {oauth2: {" + good + ", clientSecretRef: {name: s, key: k}, clientID: " + strings.Repeat("x", 513) + "}}}", []string{"spec.auth.oauth2.clientID", "512"}},
		{"audience too long", oauth2(good + ", audience: " + strings.Repeat("x", 513)), []string{"spec.auth.oauth2.audience", "512"}},
		{"no scope", oauth2(good + ", scopes: []"), []string{"spec.auth.oauth2.scopes", "at least 1"}},
		{"too many scopes", oauth2(good + ", scopes: " + numbered(33)), []string{"spec.auth.oauth2.scopes", "at most 32"}},
		{"a scope twice", oauth2(good + ", scopes: [a, a]"), []string{"spec.auth.oauth2.scopes[1]", "Duplicate value"}},
		{"scope too long", oauth2(good + ", scopes: [" + strings.Repeat("x", 257) + "]"), []string{"spec.auth.oauth2.scopes[0]", "256"}},
		{"URL too long", url("https://auth.example.com/" + strings.Repeat("x", 2048)), []string{tokenURL, "2048"}},

		{"basic", `spec: {auth: {basic: {secretRef: {name: s}}}}`, nil},
		{"bearer", "spec: {auth: {" + bearer + "}}", nil},
		{"bearer with other headers", "spec: {auth: {" + bearer + "}, headers: [{name: X-Authorization, value: x}]}", nil},
		{"OAuth 2.0", oauth2(good), nil},
		{"OAuth 2.0 with all", oauth2(good + `, audience: "https://api.example.com", scopes: [hooks:write, "https://example.com/a.b/*", "a!#[]~"]`), nil},
		{"http, which the operator's flag decides", url("http://auth.example.com/token"), nil},
		{"port and query", url("https://auth.example.com:8443/token?tenant=a@b"), nil},
	}
	for _, bad := range []string{
		"auth.example.com", "/token", "ftp://auth.example.com/", "https:///token", "https://me:pw@auth.example.com/", "https://auth.example.com/#a",
		"https://auth.example.com/a b", "https://auth.example.com/\n", "https://auth.example.com:x/",
	} {
		cases = append(cases, manifestCase{fmt.Sprintf("URL %q", bad), url(bad), []string{tokenURL, absolute}})
	}
	for _, bad := range []string{"a b", `a"b`, `a\\b`, "ä", "a\tb"} {
		cases = append(cases, manifestCase{fmt.Sprintf("scope %q", bad), oauth2(good + fmt.Sprintf(", scopes: [%q]", bad)), []string{"spec.auth.oauth2.scopes[0]", "must be a scope"}})
	}
	runCreates(t, validPostback, cases)
}
