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

package attempt

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestNoteTakeoverKeepsTheBound(t *testing.T) {
	for _, message := range []string{"", "short", strings.Repeat("é", v1alpha1.MaxMessage/2), strings.Repeat("x", v1alpha1.MaxMessage)} {
		t.Run(message, func(t *testing.T) {
			got := noteTakeover(message)
			if len(got) > v1alpha1.MaxMessage || !utf8.ValidString(got) || !strings.HasPrefix(got, takenOverNote) {
				t.Errorf("a message of %d bytes becomes one of %d", len(message), len(got))
			}
		})
	}
}
