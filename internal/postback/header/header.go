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

// Package header defines which HTTP headers a Postback may set, and which texts a request may contain.
package header

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// MaxValue bounds the value of a header, in bytes, whether it is plain or comes from a Secret.
const MaxValue = 4096

// reserved and reservedPrefixes are the headers that HTTP or the operator sets, and those for proxies. The CRD has
// the same rules.
var (
	reserved = []string{
		"host", "user-agent", "dub-signature", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"expect", "accept-encoding",
	}
	reservedPrefixes = []string{"content-", "proxy-", "webhook-"}
)

// ValidName reports whether a text is the name of a header (RFC 9110, section 5.1).
func ValidName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// Reserved reports whether a Postback may not set a header, because HTTP or the operator sets it, or because it is
// for proxies.
func Reserved(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(reserved, name) ||
		slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// ValueMistake returns the fault of a header's value, without quoting it, or "". A value without a fault reaches the
// endpoint unchanged.
func ValueMistake(value string) string {
	if mistake := TextMistake(value, MaxValue); mistake != "" {
		return mistake
	}
	if strings.Trim(value, " \t") != value {
		// HTTP strips it (RFC 9110, section 5.5).
		return "begins or ends with a space or tab: remove it"
	}
	return ""
}

// TextMistake returns the fault of a text that becomes part of a request, without quoting it, or "". longest bounds
// the text, in bytes.
func TextMistake(value string, longest int) string {
	switch {
	case strings.ContainsAny(value, "\r\n"):
		return "contains a line break: remove it (printf instead of echo)"
	case !utf8.ValidString(value):
		// A route is JSON, whose encoding would change invalid UTF-8.
		return "is not UTF-8 text: encode it as UTF-8"
	case !httpguts.ValidHeaderFieldValue(value):
		return "contains a control character: remove it"
	case len(value) > longest:
		return fmt.Sprintf("is longer than %d bytes: shorten it", longest)
	}
	return ""
}
