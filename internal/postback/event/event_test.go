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

package event

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

var idForm = regexp.MustCompile(`^evt_[0-9A-Za-z]{25}$`)

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !idForm.MatchString(id) || !ValidID(id) || seen[id] {
			t.Fatalf("got id %q", id)
		}
		seen[id] = true
	}
}

func TestDerivedID(t *testing.T) {
	// The ids must never change, so that a request repeated with its Idempotency-Key after an upgrade is the same
	// event.
	tests := map[string]struct {
		parts []string
		want  string
	}{
		"of a key":       {[]string{"idempotency", "acme", "k1", "0"}, "evt_vanLIHUGFTAYXvNiXVDK3jPSw"},
		"another event":  {[]string{"idempotency", "acme", "k1", "1"}, "evt_A9LznJlxAE8DnW7tSYc1poHTw"},
		"cut elsewhere":  {[]string{"idempotency", "acm", "ek1", "0"}, "evt_oRSc9n90QFLlrIsnFQ8h2h8iO"},
		"nothing at all": {nil, "evt_5IxLHpeEWjUSnpuggYAkGEiiE"},
		"one empty part": {[]string{""}, "evt_BD9nBj3P98ERp3707jdUvLZxv"},
	}
	seen := map[string]string{}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := DerivedID(tt.parts...)
			if got != tt.want || !idForm.MatchString(got) {
				t.Errorf("%s: got %q, want %q", name, got, tt.want)
			}
			if other, ok := seen[got]; ok {
				t.Errorf("%s and %s have one id", name, other)
			}
			seen[got] = name
		})
	}
}

func TestValid(t *testing.T) {
	types := map[string]bool{
		"lead.created": true, "a": true, "A_b-c.1": true, strings.Repeat("a", 63): true,
		"": false, ".a": false, "a.": false, "a..b": false, "-a": false, "a-": false, "a.-b": false, "sale.*": false,
		"a b": false, "é": false, "a\n": false, strings.Repeat("a", 64): false,
	}
	for s, want := range types {
		t.Run(s, func(t *testing.T) {
			if got := ValidType(s); got != want {
				t.Errorf("ValidType(%q) = %v", s, got)
			}
		})
	}
	ids := map[string]bool{
		"evt_1": true, "a:b/c+d=e@f~g-h": true, strings.Repeat("a", 128): true,
		"": false, "a.b": false, "a b": false, "a\n": false, "é": false, `a"`: false, strings.Repeat("a", 129): false,
	}
	for s, want := range ids {
		t.Run(s, func(t *testing.T) {
			if got := ValidID(s); got != want {
				t.Errorf("ValidID(%q) = %v", s, got)
			}
		})
	}
}

func TestBody(t *testing.T) {
	e := Event{
		ID: "evt_1", Type: "lead.created", Data: json.RawMessage(`{"b": 1.0, "a":"<\u003c>"}`),
		CreatedAt: time.Date(2026, 1, 31, 1, 2, 3, 4_999_999, time.FixedZone("", 2*60*60)),
	}
	const want = `{"id":"evt_1","event":"lead.created","createdAt":"2026-01-30T23:02:03.004Z","data":{"b": 1.0, "a":"<\u003c>"}}`
	if got := string(e.Body()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
