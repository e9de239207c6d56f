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

// Package header says which HTTP headers a Postback may set, and which texts may be sent.
package header

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// MaxValue bounds the value of a header in bytes, wherever it comes from.
const MaxValue = 4096

// reserved headers, and those that begin with one of reservedPrefixes, are set by HTTP or the operator, or are a proxy's.
// The API's rules have the same.
var (
	reserved = []string{
		"host", "user-agent", "dub-signature", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"expect", "accept-encoding",
	}
	reservedPrefixes = []string{"content-", "proxy-", "webhook-"}
)

// ValidName reports whether a text is the name of a header (RFC 9110, section 5.1).
func ValidName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// Reserved reports whether a header is HTTP's or the operator's to set, or a proxy's.
func Reserved(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(reserved, name) ||
		slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// ValueMistake returns the fault of the value of a header, without showing it, or "". A value without a mistake
// arrives as it is.
func ValueMistake(value string) string {
	if mistake := TextMistake(value, MaxValue); mistake != "" {
		return mistake
	}
	if strings.Trim(value, " \t") != value {
		// HTTP takes it away (RFC 9110, section 5.5).
		return "begins or ends with a space or tab: remove it"
	}
	return ""
}

// TextMistake returns the fault of a text that becomes part of a request and has at most longest bytes, without
// showing it, or "".
func TextMistake(value string, longest int) string {
	switch {
	case strings.ContainsAny(value, "\r\n"):
		return "contains a line break: remove it (printf instead of echo)"
	case !utf8.ValidString(value):
		// A route is JSON, which would change it.
		return "is not UTF-8 text: encode it as UTF-8"
	case !httpguts.ValidHeaderFieldValue(value):
		return "contains a control character: remove it"
	case len(value) > longest:
		return fmt.Sprintf("is longer than %d bytes: shorten it", longest)
	}
	return ""
}
