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

func FuzzValidateShowsNothing(f *testing.F) {
	f.Add("whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n")
	f.Add("c2VjcmV0c2VjcmV0")
	f.Fuzz(func(t *testing.T, key string) {
		err := Validate(key)
		if err == nil || len(key) < 12 || strings.Contains("whsec_ and the base64 of 24 to 64 bytes: use the standard alphabet, with padding", key) {
			return
		}
		if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), key[6:]) {
			t.Errorf("the error shows the key: %v", err)
		}
	})
}
