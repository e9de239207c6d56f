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
	"encoding/json"
	"math"
	"strings"
	"time"
)

// claims are the unverified claims of a token that is a JSON Web Token (RFC 7519). They shorten the caching of an
// answer and explain a refusal, but allow nothing.
type claims struct {
	// Expiry is in seconds since 1970.
	Expiry   *float64  `json:"exp"`
	Audience audiences `json:"aud"`
}

// readClaims returns the claims of a token, or none if the token is not a JSON Web Token.
func readClaims(token string) claims {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return claims{}
	}
	if c.Expiry != nil && (*c.Expiry < 0 || *c.Expiry > math.MaxInt32*1000.0) {
		c.Expiry = nil // the time is out of range
	}
	return c
}

func (c *claims) expiry() time.Time { return time.Unix(int64(*c.Expiry), 0) }

// leeway allows for a wrong clock here: until it has passed, the API server decides whether a token has expired.
const leeway = time.Minute

func (c *claims) expired(now time.Time) bool {
	return c.Expiry != nil && now.After(c.expiry().Add(leeway))
}

// audiences is a string or an array of strings.
type audiences []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}
