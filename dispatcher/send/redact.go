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
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

const (
	// redacted replaces a secret in a record.
	redacted = "[redacted]"
	// minSecret is the least length of a secret in bytes. Shorter texts occur by chance.
	minSecret = 4
)

// schemes are words that precede a credential and are not secret, because they occur in many texts.
var schemes = []string{"Basic", "Bearer", "Token", "Digest", "Apikey", "Api-Key", "Key", "OAuth", "HMAC", "Signature"}

// secrets are texts that must not be in the record of an attempt. The other side may repeat them: many test endpoints
// echo the request. An endpoint can encode a secret beyond recognition, but it knows only its own.
type secrets struct {
	texts []string
	// written has the texts and their encodings. forms fills it on demand.
	written []string
}

// secretsOf returns the secrets of a route that the endpoint or the authorisation server may know. The key of a
// client certificate is not among them, because it never leaves the dispatcher.
func secretsOf(r *route.Route) *secrets {
	s := &secrets{}
	for _, key := range r.Keys {
		s.add(key, strings.TrimPrefix(key, sign.KeyPrefix))
	}
	for _, h := range r.Headers {
		if h.Secret || endpoint.Sensitive(h.Name) {
			s.add(h.Value)
			s.addParts(h.Value)
		}
	}
	s.add(endpoint.Secrets(r.URL)...)
	if r.Auth == nil {
		return s
	}
	s.add(r.Auth.Bearer)
	if basic := r.Auth.Basic; basic != nil {
		s.add(basic.Password)
	}
	if o := r.Auth.OAuth2; o != nil {
		pair := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret) // RFC 6749, section 2.3.1.
		s.add(endpoint.Secrets(o.TokenURL)...)
		s.add(o.ClientSecret, base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return s
}

// addHeader adds the values of headers that authenticate a request.
func (s *secrets) addHeader(header http.Header, names ...string) {
	for _, name := range names {
		s.addParts(header.Get(name))
	}
}

// addParts adds the parts of a header value that a server may use alone: a credential without its scheme, a signature
// without its version, or a cookie or parameter without its name.
func (s *secrets) addParts(value string) {
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t,;", r) }) {
		if slices.ContainsFunc(schemes, func(scheme string) bool { return strings.EqualFold(scheme, part) }) {
			continue
		}
		_, named, _ := strings.Cut(part, "=")
		s.add(part, strings.Trim(named, `"`))
	}
}

func (s *secrets) add(texts ...string) {
	for _, text := range texts {
		if len(text) >= minSecret {
			s.texts, s.written = append(s.texts, text), nil
		}
	}
}

// forms returns the secrets and their encodings.
func (s *secrets) forms() []string {
	if s.written != nil {
		return s.written
	}
	for _, text := range s.texts {
		digits := hex.EncodeToString([]byte(text))
		s.written = append(s.written, text, digits, strings.ToUpper(digits),
			strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "="),
			strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(text)), "="))
	}
	slices.Sort(s.written)
	s.written = slices.Compact(s.written)
	return s.written
}

// longest returns an upper bound for the length of an encoded secret, without encoding it.
func (s *secrets) longest() int {
	longest := 0
	for _, text := range s.texts {
		longest = max(longest, 2*longestEscape*len(text)) // Hexadecimal doubles the length.
	}
	return longest
}

// span is a range of bytes in a text.
type span struct{ from, to int }

// find returns the spans of the secrets that begin before limit.
func (s *secrets) find(text string, limit int) []span {
	var found []span
	for _, form := range s.forms() {
		for from := 0; ; {
			at := strings.Index(text[from:], form)
			if at < 0 || from+at >= limit {
				break
			}
			found = append(found, span{from + at, from + at + len(form)})
			from += at + 1
		}
		for escape, in := range spellings {
			if !strings.Contains(text, escape) && (escape != "%" || !strings.Contains(text, "+")) {
				continue
			}
			for at := range limit {
				if n := spelled(text[at:], form, in); n > 0 {
					found = append(found, span{at, at + n})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return found
}

// redact returns at least the first limit bytes of a text, with secrets replaced. It recognises a secret only if the
// text contains the whole of it, so the text has to extend beyond limit.
func (s *secrets) redact(text string, limit int) string {
	limit = min(limit, len(text))
	if limit < minSecret {
		return text[:limit]
	}
	var b strings.Builder
	done := 0
	for _, f := range s.find(text, limit) {
		if f.from >= done {
			b.WriteString(text[done:f.from])
			b.WriteString(redacted)
		}
		done = max(done, f.to)
	}
	if done < limit {
		b.WriteString(text[done:limit])
	}
	return b.String()
}
