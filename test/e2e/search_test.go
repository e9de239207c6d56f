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

package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// search looks for secrets in texts, in many encodings.
type search struct {
	// secrets maps names, which the findings show, to secrets.
	secrets map[string]string
	// places maps sources to their texts.
	places map[string]string
}

// minSearched is the least length of a secret: shorter texts may occur by chance.
const minSearched = 12

// add adds a secret to the search. For a signing key it also adds the decoded bytes, and for a PEM file the lines.
func (s *search) add(name, secret string) {
	s.secrets[name] = secret
	if encoded, ok := strings.CutPrefix(secret, sign.KeyPrefix); ok {
		s.secrets[name+" without its prefix"] = encoded
		if raw, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			s.secrets[name+" decoded"] = string(raw)
		}
	}
	for i, line := range strings.Split(secret, "\n") {
		if strings.Contains(secret, "\n") && len(line) >= minSearched && !strings.HasPrefix(line, "-----") {
			s.secrets[fmt.Sprintf("%s, line %d", name, i+1)] = line
		}
	}
}

// findings returns the sorted findings in the form "NAME in PLACE, as FORM".
func (s *search) findings(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		if len(s.secrets[name]) < minSearched {
			t.Errorf("%s is too short to be looked for", name)
			continue
		}
		written := forms(s.secrets[name])
		for _, place := range slices.Sorted(maps.Keys(s.places)) {
			for _, form := range slices.Sorted(maps.Keys(written)) {
				if strings.Contains(s.places[place], written[form]) {
					found = append(found, name+" in "+place+", as "+form)
					break
				}
			}
		}
	}
	return found
}

// forms returns the encodings of a text by their names.
func forms(text string) map[string]string {
	raw := []byte(text)
	written := map[string]string{
		"itself":     text,
		"query":      url.QueryEscape(text),
		"path":       url.PathEscape(text),
		"HTML":       html.EscapeString(text),
		"hex":        hex.EncodeToString(raw),
		"upper hex":  strings.ToUpper(hex.EncodeToString(raw)),
		"spaced hex": strings.Trim(fmt.Sprintf("% x", raw), " "),
		"bytes":      strings.Trim(fmt.Sprintf("%d", raw), "[]"),
		"Go":         unquoted(fmt.Sprintf("%q", text)),
		"slashes":    strings.ReplaceAll(text, "/", `\/`),
	}
	for _, safe := range []bool{true, false} {
		quoted := text
		for level := range 3 {
			quoted = inJSON(quoted, safe)
			written[fmt.Sprintf("JSON, %d deep, safe for HTML: %t", level+1, safe)] = quoted
		}
	}
	// As part of a longer text, it may begin at each of the three positions in a base64 group.
	for shift, skip := range []int{0, 2, 3} {
		whole := append(make([]byte, shift), raw...)
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			encoded := encoding.EncodeToString(whole)
			if len(whole)%3 != 0 {
				encoded = encoded[:len(encoded)-1]
			}
			written[fmt.Sprintf("%s, shifted by %d", name, shift)] = encoded[skip:]
		}
	}
	// client-go dumps bodies like "hexdump -C", in groups of 8 bytes, one of which lies within the text.
	const group = 8
	for from := 0; from < group && from+group <= len(raw); from++ {
		written[fmt.Sprintf("dump from %d", from)] = fmt.Sprintf("% x", raw[from:from+group])
	}
	return written
}

func inJSON(text string, safe bool) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(safe)
	if err := encoder.Encode(text); err != nil {
		return text
	}
	return unquoted(strings.TrimSuffix(b.String(), "\n"))
}

func unquoted(text string) string { return text[1 : len(text)-1] }

// TestSearchFindsSecrets plants a secret in each form, and finds it there and nowhere else.
func TestSearchFindsSecrets(t *testing.T) {
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw/+KQ9r8GKYo="
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, sign.KeyPrefix))
	if err != nil {
		t.Fatal(err)
	}
	route, err := json.Marshal(map[string]any{"keys": []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]string{"body": string(route)})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"itself":             "a " + key,
		"JSON in JSON":       string(line),
		"without its prefix": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw/+KQ9r8GKYo=",
		"base64 of JSON":     base64.StdEncoding.EncodeToString(route),
		"base64, shifted":    base64.StdEncoding.EncodeToString(append([]byte("x"), route...)),
		"base64, shifted 2":  base64.RawURLEncoding.EncodeToString(append([]byte("xx"), route...)),
		"hex":                hex.EncodeToString([]byte(key)),
		"upper hex":          strings.ToUpper(hex.EncodeToString(raw)),
		"a query":            "?key=" + url.QueryEscape(key),
		"an escaped slash":   strings.ReplaceAll(key, "/", `\/`),
		"bytes":              fmt.Sprintf("%d", raw),
		"a dump":             hex.Dump(route),
		"a dump of bytes":    hex.Dump(append([]byte("123"), raw...)),
		"HTML":               html.EscapeString("<b>" + key),
		"a printed struct":   fmt.Sprintf("%+v", struct{ Keys []string }{[]string{key}}),
		"a printed pointer":  fmt.Sprintf("%#v", []string{key}),
		"URL-safe of itself": base64.URLEncoding.EncodeToString([]byte(key)),
	} {
		t.Run(name, func(t *testing.T) {
			s := search{secrets: map[string]string{}, places: map[string]string{"there": text, "elsewhere": "whsec_other"}}
			s.add("the key", key)
			found := s.findings(t)
			if len(found) == 0 {
				t.Errorf("not found in %q", text)
			}
			for _, finding := range found {
				if !strings.Contains(finding, "in there") || strings.Contains(finding, key) {
					t.Errorf("found %q", finding)
				}
			}
		})
	}
}
