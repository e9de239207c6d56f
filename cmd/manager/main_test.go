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

package main

import (
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/controllers"
)

func TestRunRefusesASignatureHeaderThatIsNone(t *testing.T) {
	for _, name := range []string{"", "Acme Signature", "Acme-Signature:", "Acmé"} {
		t.Run(name, func(t *testing.T) {
			o := options{Options: controllers.Options{Policy: controllers.Policy{SignatureHeader: name}}}
			if err := run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--signature-header") {
				t.Errorf("%q: %v", name, err)
			}
		})
	}
}
