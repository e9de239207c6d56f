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

package send

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// longestEscape is the largest number of bytes that encode one byte, as in \u003c and &quot;.
const longestEscape = 6

// spelling is an encoding of text in which a character may be escaped. It returns the number of bytes at the
// beginning of text that encode a character, or 0. An invalid UTF-8 byte counts as a character.
type spelling func(text, character string) int

// spellings are the encodings of honest endpoints, by the byte that begins their escapes.
var spellings = map[string]spelling{"%": inURL, `\`: inJSON, "&": inHTML}

// spelled returns the length in bytes of an encoded secret at the beginning of a text, or 0.
func spelled(text, secret string, in spelling) int {
	length := 0
	for rest := secret; rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		n := in(text[length:], rest[:size])
		if n == 0 {
			return 0
		}
		length, rest = length+n, rest[size:]
	}
	return length
}

// asItIs is the encoding without escapes.
func asItIs(text, character string) int {
	if strings.HasPrefix(text, character) {
		return len(character)
	}
	return 0
}

// inURL recognises %2F, %2f, and + for a space.
func inURL(text, character string) int {
	switch {
	case character == " " && strings.HasPrefix(text, "+"):
		return 1
	case !strings.HasPrefix(text, "%"):
		return asItIs(text, character)
	}
	var escaped strings.Builder
	for i := range len(character) {
		fmt.Fprintf(&escaped, "%%%02x", character[i])
	}
	return foldedPrefix(text, escaped.String())
}

// inJSON recognises \", \/ and \u00e9: some encoders escape characters outside ASCII, or special in HTML.
func inJSON(text, character string) int {
	const short = `""\\//b` + "\bf\fn\nr\rt\t" // Pairs of the escaped and the meant character.
	switch {
	case !strings.HasPrefix(text, `\`):
		return asItIs(text, character)
	case len(text) > 1 && len(character) == 1 && text[1] != 'u':
		for i := 0; i < len(short); i += 2 {
			if text[1] == short[i] && character[0] == short[i+1] {
				return 2
			}
		}
		return 0
	}
	var escaped strings.Builder
	for _, unit := range utf16.Encode([]rune(character)) {
		fmt.Fprintf(&escaped, `\u%04x`, unit)
	}
	return foldedPrefix(text, escaped.String())
}

// inHTML recognises character references such as &quot; &#39; &#039; &#x27; and &eacute;.
func inHTML(text, character string) int {
	if strings.HasPrefix(text, "&") {
		end := strings.IndexByte(text[:min(len(text), longestEscape*len(character))], ';')
		if end > 0 && html.UnescapeString(text[:end+1]) == character {
			return end + 1
		}
	}
	return asItIs(text, character)
}

// foldedPrefix returns the length of a prefix of text, ignoring case, or 0 if text does not begin with it.
func foldedPrefix(text, prefix string) int {
	if len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
		return len(prefix)
	}
	return 0
}
