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

package access

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"
)

func jwt(payload string) string {
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

func TestClaimsAllowNothingAndBreakNothing(t *testing.T) {
	for name, token := range map[string]string{
		"opaque": "abc", "two parts": "a.b", "not base64": "a.!.c", "not JSON": "a." + base64.RawURLEncoding.EncodeToString([]byte("x")) + ".c",
		"exp is text": jwt(`{"exp":"soon"}`), "exp beyond all time": jwt(`{"exp":1e300}`), "exp negative": jwt(`{"exp":-1}`), "an array": jwt(`[]`),
		"aud is a number": jwt(`{"aud":1}`), "null": jwt(`null`),
	} {
		t.Run(name, func(t *testing.T) {
			if c := readClaims(token); c.Expiry != nil || len(c.Audience) > 0 || c.expired(start) {
				t.Errorf("%s: got %+v", name, c)
			}
		})
	}
	if c := readClaims(jwt(`{"aud":"one","exp":100.5}`)); len(c.Audience) != 1 || c.expiry().Unix() != 100 {
		t.Errorf("got %+v", c)
	}
}

func FuzzClaims(f *testing.F) {
	for _, seed := range []string{jwt(`{"aud":["a"],"exp":1}`), "a.b.c", "", "..", jwt(`{"aud":{}}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c := readClaims(token)
		_ = c.expired(start)
		if c.Expiry != nil && (c.expiry().Year() < 1970 || c.expiry().Year() > 70_100) {
			t.Errorf("%q expires at %v", token, c.expiry())
		}
		if strings.Count(token, ".") != 2 && c.Expiry != nil {
			t.Error("claims of what is no token")
		}
	})
}
