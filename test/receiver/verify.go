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

package receiver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// dubHeader is the header in Dub's documentation.
const dubHeader = "Dub-Signature"

// verify returns the names of the secrets that verify a request, for each scheme.
func verify(secrets []Secret, header http.Header, body []byte) (standard, dub []string) {
	for _, secret := range secrets {
		if verifyStandardWebhooks(secret.Value, header, body) {
			standard = append(standard, secret.Name)
		}
		if verifyDub(secret.Value, header.Get(dubHeader), body) {
			dub = append(dub, secret.Name)
		}
	}
	return standard, dub
}

// verifyStandardWebhooks uses the upstream library, as a partner would.
func verifyStandardWebhooks(secret string, header http.Header, body []byte) bool {
	webhook, err := standardwebhooks.NewWebhook(secret)
	return err == nil && webhook.Verify(body, header) == nil
}

// verifyDub follows Dub's documentation: the signature is the lower-case hexadecimal HMAC-SHA256 of the raw body, and
// the key is the secret as shown.
func verifyDub(secret, signature string, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal([]byte(signature), []byte(hex.EncodeToString(mac.Sum(nil))))
}
