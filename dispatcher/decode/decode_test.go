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

package decode

import "testing"

func TestHeaderValue(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "a%20b": "a b", "%E2%82%AC": "€", "100%": "100%", "%zz%20": "%zz%20", `"quoted \"x\" %20"`: `quoted "x"  `, `"`: `"`, `""`: "", "": "",
	} {
		t.Run(text, func(t *testing.T) {
			if got := headerValue(text); got != want {
				t.Errorf("%q: got %q, want %q", text, got, want)
			}
		})
	}
}
