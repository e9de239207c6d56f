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

package keyring

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
)

func encode(length int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xfb", length)))
}

func TestNewIsValidAndNew(t *testing.T) {
	a, b := New(), New()
	if err := Validate(a); err != nil {
		t.Errorf("a new key %v", err)
	}
	if a == b {
		t.Error("two new keys are equal")
	}
	if len(a) != len("whsec_")+44 {
		t.Errorf("a new key has %d characters", len(a))
	}
}

func TestValidate(t *testing.T) {
	good := encode(32)
	tests := map[string]struct {
		key  string
		want string // part of the error; "" if there is none
	}{
		"24 bytes":          {encode(24), ""},
		"32 bytes":          {good, ""},
		"64 bytes":          {encode(64), ""},
		"empty":             {"", "is empty"},
		"line break":        {good + "\n", "ends with a line break"},
		"CR LF":             {good + "\r\n", "ends with a line break"},
		"break inside":      {good[:20] + "\n" + good[20:], "is not base64"},
		"space":             {" " + good, "has a space"},
		"tab":               {good + "\t", "has a space"},
		"no prefix":         {good[6:], "does not begin with whsec_"},
		"upper-case prefix": {"WHSEC_" + good[6:], "does not begin with whsec_"},
		"only the prefix":   {"whsec_", "is too short"},
		"URL alphabet":      {"whsec_" + base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xfb", 32))), "is not base64"},
		"no padding":        {strings.TrimRight(good, "="), "is not base64"},
		"trailing bits":     {good[:len(good)-2] + "1=", "is not base64"},
		"23 bytes":          {encode(23), "is too short: 23 bytes"},
		"65 bytes":          {encode(65), "is too long: 65 bytes"},
		"not text":          {"whsec_\xff\xfe", "is not base64"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := Validate(test.key)
			switch {
			case err == nil && test.want != "":
				t.Errorf("accepted, want %q", test.want)
			case err != nil && test.want == "":
				t.Errorf("refused: %v", err)
			case err != nil && !strings.Contains(err.Error(), test.want):
				t.Errorf("got %q, want %q", err, test.want)
			}
		})
	}
}

// Errors about a key reveal only its length.
func FuzzValidateShowsNothing(f *testing.F) {
	number := regexp.MustCompile(`[0-9]+`)
	text := func(err error) string { return number.ReplaceAllString(err.Error(), "N") }
	known := map[string]bool{}
	for _, key := range []string{"", "x", " x", "x\n", "whsec_x", encode(23), encode(65)} {
		f.Add(key)
		known[text(Validate(key))] = true
	}
	f.Add("whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n")
	f.Add("000000whsec_")
	f.Fuzz(func(t *testing.T, key string) {
		if err := Validate(key); err != nil && !known[text(err)] {
			t.Errorf("the error is like none of the others: %v", err)
		}
	})
}
