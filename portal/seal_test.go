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

package portal

import (
	"strings"
	"testing"
)

func TestSealedTexts(t *testing.T) {
	s, err := newSealer(keys + "\n")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.seal(purposeSession, "portal-1", session{Namespace: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, purpose, context, sealed string
		want                           bool
	}{
		{"as sealed", purposeSession, "portal-1", sealed, true},
		{"for another purpose", purposeLink, "portal-1", sealed, false},
		{"in another context", purposeSession, "portal-2", sealed, false},
		{"shorter than a nonce", purposeSession, "portal-1", sealed[:8], false},
		{"not base64", purposeSession, "portal-1", "?", false},
		{"empty", purposeSession, "portal-1", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got session
			if opened := s.open(test.purpose, test.context, test.sealed, &got); opened != test.want || (got.Namespace == "acme") != test.want {
				t.Errorf("opened: %t, %+v", opened, got)
			}
		})
	}
}

func TestSessionKeys(t *testing.T) {
	key := strings.Repeat("k", minKey)
	for _, test := range []struct{ name, content, want string }{
		{"one", key, ""},
		{"two, and an empty line", key + "\n\n" + key + "2\n", ""},
		{"none", "\n", "holds no session key"},
		{"short", "secret", "needs at least 32"},
		{"too many", strings.Repeat(key+"\n", maxKeys+1), "more than 4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newSealer(test.content)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v", err)
			}
			if err != nil && strings.Contains(err.Error(), test.content) && test.name == "short" {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestAddressOfThePortal(t *testing.T) {
	for text, want := range map[string]bool{
		"https://postbacks.example.com": true, "https://postbacks.example.com:8443": true,
		"": false, "http://postbacks.example.com": false, "https://": false, "https://a.example/path": false, "https://u@a.example": false, "https://a.example?x": false, "postbacks.example.com": false,
	} {
		t.Run(text, func(t *testing.T) {
			if _, err := parseOrigin(text); (err == nil) != want {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
}
