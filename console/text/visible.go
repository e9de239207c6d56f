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

// Package text shows untrusted text. It escapes all text, and makes invisible characters and those that reorder the
// text visible.
package text

import (
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"github.com/postback-dev/postback-operator/internal/nonprinting"
)

// Visible returns text as HTML. It shows the code of each nonprinting character.
func Visible(s string) template.HTML {
	var b strings.Builder
	writeVisible(&b, s)
	return template.HTML(b.String()) //nolint:gosec // Every character was escaped or replaced.
}

func writeVisible(b *strings.Builder, s string) {
	from := 0
	for i, r := range s {
		name := hidden(r)
		if name == "" {
			continue
		}
		b.WriteString(template.HTMLEscapeString(s[from:i]))
		fmt.Fprintf(b, `<span class="ctl" title="%s">%s</span>`, describe(r), name)
		from = i + utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, width := utf8.DecodeRuneInString(s[i:])
			from = i + width
		}
	}
	b.WriteString(template.HTMLEscapeString(s[from:]))
}

// Plain returns text for an attribute or a title, with each nonprinting character replaced by its code.
func Plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if name := hidden(r); name != "" {
			b.WriteString(name)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden returns the code of a nonprinting character, such as U+200B, or "".
func hidden(r rune) string {
	if r == '\n' || r == '\t' || !nonprinting.Is(r) {
		return ""
	}
	return fmt.Sprintf("U+%04X", r)
}

func describe(r rune) string {
	switch r {
	case 0x1b:
		return "escape, U+001B"
	case '\r':
		return "carriage return, U+000D"
	case 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0x200e, 0x200f, 0x61c:
		return fmt.Sprintf("mark of direction, U+%04X", r)
	}
	return fmt.Sprintf("U+%04X", r)
}
