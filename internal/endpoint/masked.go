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

package endpoint

import (
	"net/url"
	"strings"
	"unicode"
)

// Hidden replaces a secret in text that is shown.
const Hidden = "[hidden]"

// sensitive are parts of names of headers and parameters that hold credentials.
var sensitive = []string{"token", "secret", "password", "passwd", "apikey", "accesskey", "privatekey", "signature", "authorization", "credential", "cookie", "session", "jwt"}

// exactly are whole names of headers and parameters that hold credentials.
var exactly = []string{"key", "auth", "sig", "code", "pwd", "pass", "xauth", "authkey", "xauthkey", "xkey", "hapikey", "subscriptionkey", "ocpapimsubscriptionkey", "xfunctionskey"}

// Sensitive reports whether the header or parameter with this name holds a credential. It ignores case and
// punctuation.
func Sensitive(name string) bool {
	name = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
	for _, part := range sensitive {
		if strings.Contains(name, part) {
			return true
		}
	}
	for _, whole := range exactly {
		if name == whole {
			return true
		}
	}
	return false
}

// Masked returns a URL with its user information, and the values of sensitive parameters, hidden.
func Masked(raw string) string {
	before, query, hasQuery := strings.Cut(raw, "?")
	if scheme, rest, ok := strings.Cut(before, "://"); ok {
		authority, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			before = scheme + "://" + Hidden + authority[at:]
			if len(rest) > len(authority) {
				before += "/" + path
			}
		}
	}
	if !hasQuery {
		return before
	}
	query, fragment, hasFragment := strings.Cut(query, "#")
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		name, value, _ := strings.Cut(parameter, "=")
		plain, err := url.QueryUnescape(name)
		if value != "" && (err != nil || Sensitive(plain)) {
			parameters[i] = name + "=" + Hidden
		}
	}
	masked := before + "?" + strings.Join(parameters, "&")
	if hasFragment {
		masked += "#" + fragment
	}
	return masked
}

// Secrets returns the values that Masked hides, both raw and decoded.
func Secrets(raw string) []string {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	var all []string
	for parameter := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		plain, err := url.QueryUnescape(name)
		if value == "" || err == nil && !Sensitive(plain) {
			continue
		}
		all = append(all, value)
		if decoded, err := url.QueryUnescape(value); err == nil && decoded != value {
			all = append(all, decoded)
		}
	}
	return all
}
