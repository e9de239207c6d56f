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

package action

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, test := range map[string]struct {
		value           string
		name, namespace error
	}{
		"plain":                {"acme-crm2", nil, nil},
		"63 characters":        {strings.Repeat("a", 63), nil, nil},
		"64 characters":        {strings.Repeat("a", 64), errName, errNamespace},
		"dots":                 {"eu.acme-crm", nil, errNamespace},
		"empty":                {"", errName, errNamespace},
		"upper case":           {"Bad", errName, errNamespace},
		"underscore":           {"bad_name", errName, errNamespace},
		"space":                {"acme crm", errName, errNamespace},
		"hyphen at the end":    {"acme-", errName, errNamespace},
		"hyphen next to a dot": {"eu-.acme", errName, errNamespace},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckName(test.value); !errors.Is(err, test.name) {
				t.Errorf("name: %v, want %v", err, test.name)
			}
			if err := CheckNamespace(test.value); !errors.Is(err, test.namespace) {
				t.Errorf("namespace: %v, want %v", err, test.namespace)
			}
		})
	}
}
