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

package portallink

import (
	"strings"
	"testing"
	"time"
)

func TestLength(t *testing.T) {
	for _, test := range []struct {
		name string
		Request
		want    time.Duration
		problem string
	}{
		{"the shortest", Request{"viewer", "10m"}, 10 * time.Minute, ""},
		{"the longest", Request{"key-reader", "12h"}, 12 * time.Hour, ""},
		{"no role", Request{"", "8h"}, 0, `role is "", and must be one of viewer, editor, key-reader`},
		{"another role", Request{"admin", "8h"}, 0, `role is "admin"`},
		{"too short", Request{"editor", "9m59s"}, 0, `ttl is "9m59s", and must be a duration from 10m to 12h`},
		{"too long", Request{"editor", "12h1s"}, 0, `ttl is "12h1s"`},
		{"no duration", Request{"editor", "8"}, 0, `ttl is "8"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.Length()
			if got != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestNamespaceOfAPath(t *testing.T) {
	for path, want := range map[string]bool{
		Path("acme"):                    true,
		Path("acme") + "/":              false,
		Path("ACME"):                    false,
		Path("acme/secrets"):            false,
		Path(".."):                      false,
		"/v1/namespaces/acme":           false,
		"/v1/namespaces/portal-links":   false,
		"/v1/namespaces//portal-links":  false,
		"/v1/namespaces/acme/postbacks": false,
	} {
		t.Run(path, func(t *testing.T) {
			if got, ok := Namespace(path); ok != want || ok && got != "acme" {
				t.Errorf("%s: got %q, %t", path, got, ok)
			}
		})
	}
}
