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

package format

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

const ellipsis = "…"

// slackText makes a text safe for Slack. It escapes & < and > as Slack requires, so that no link or mention such as
// <!channel> remains. Control characters except line breaks become spaces. Nonprinting characters, such as direction
// marks, are removed. The result is never empty, and has at most limit characters in UTF-16.
func slackText(text string, limit int) string {
	var b strings.Builder
	length, fits := 0, 0
	for _, r := range text {
		piece := slackRune(r)
		length += utf16Length(piece)
		if length > limit {
			return cut(b.String(), fits)
		}
		b.WriteString(piece)
		if length <= limit-utf16Length(ellipsis) {
			fits = b.Len()
		}
	}
	if strings.TrimSpace(b.String()) == "" {
		return "-" // Slack refuses an empty text.
	}
	return b.String()
}

// cut cuts a text after a number of bytes, and adds an ellipsis.
func cut(text string, at int) string { return text[:at] + ellipsis }

// clip returns at most limit characters of a text that is not escaped yet, and an ellipsis if it is longer.
func clip(text string, limit int) string {
	count := 0
	for i := range text {
		if count == limit {
			return text[:i] + ellipsis
		}
		count++
	}
	return text
}

func slackRune(r rune) string {
	switch {
	case r == '&':
		return "&amp;"
	case r == '<':
		return "&lt;"
	case r == '>':
		return "&gt;"
	case r == '\n':
		return "\n"
	case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
		return " "
	case unicode.Is(unicode.Cf, r):
		return ""
	}
	return string(r)
}

// utf16Length returns the length in UTF-16 units, as JavaScript counts. It is never less than the number of
// characters.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}
