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

package text

import (
	"bytes"
	"encoding/json"
	"html/template"
	"strings"
	"unicode/utf8"
)

// maxShown bounds the part of a body that a page shows, in bytes. The download has the whole body.
const maxShown = 64 << 10

// maxDepth bounds the nesting of indented JSON: n nested brackets, each on its own line, need n² bytes.
const maxDepth = 100

// Body is a body as a page shows it.
type Body struct {
	HTML template.HTML
	// Size is the size of the whole body in bytes. Cut says that only a part is shown. JSON says that the body is
	// indented.
	Size      int
	Cut, JSON bool
}

// Show returns a body as a page shows it: JSON indented and coloured, anything else unchanged.
func Show(body string) Body {
	shown := Body{Size: len(body)}
	var indented bytes.Buffer
	// json.Indent keeps names, order and numbers unchanged.
	if len(body) <= maxShown && depth(body) <= maxDepth && json.Indent(&indented, []byte(body), "", "  ") == nil {
		shown.JSON, shown.HTML = true, colour(indented.String())
		return shown
	}
	text := body
	if len(text) > maxShown {
		shown.Cut = true
		for text = text[:maxShown]; len(text) > 0; text = text[:len(text)-1] {
			if r, _ := utf8.DecodeLastRuneInString(text); r != utf8.RuneError {
				break
			}
		}
	}
	shown.HTML = Visible(text)
	return shown
}

// depth returns the deepest nesting of brackets, including brackets within strings.
func depth(s string) (deepest int) {
	now := 0
	for i := range len(s) {
		switch s[i] {
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		}
	}
	return deepest
}

// colour marks the tokens of valid JSON with CSS classes.
func colour(s string) template.HTML {
	var b strings.Builder
	for len(s) > 0 {
		n, class := token(s)
		if class != "" {
			b.WriteString(`<span class="` + class + `">`)
		}
		writeVisible(&b, s[:n])
		if class != "" {
			b.WriteString("</span>")
		}
		s = s[n:]
	}
	return template.HTML(b.String()) //nolint:gosec // Every token was escaped.
}

// token returns the length of the first token of a text, and its CSS class.
func token(s string) (length int, class string) {
	switch c := s[0]; {
	case c == '"':
		n := 1
		for n < len(s) && s[n] != '"' {
			if s[n] == '\\' {
				n++
			}
			n++
		}
		n = min(n+1, len(s))
		if strings.HasPrefix(s[n:], ":") {
			return n, "j-key"
		}
		return n, "j-str"
	case strings.ContainsRune(numbers, rune(c)):
		return span(s, numbers+"+.eE"), "j-num"
	case strings.ContainsRune(letters, rune(c)):
		return span(s, letters), "j-word"
	}
	n := strings.IndexAny(s, `"`+numbers+letters)
	if n < 0 {
		n = len(s)
	}
	return n, ""
}

const (
	numbers = "-0123456789"
	// letters are the letters of true, false and null.
	letters = "aeflnrstu"
)

func span(s, set string) int { return len(s) - len(strings.TrimLeft(s, set)) }
