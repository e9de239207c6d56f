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
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute

// verifyDub returns an error unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the
// whole secret string. rawBody is the body's bytes, as they came in and before anything parses them; secret is as it is
// shown to you, with whsec_.
func verifyDub(rawBody []byte, signatureHeader, secret string) error {
	if signatureHeader == "" {
		return errors.New("the header Dub-Signature is missing")
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(rawBody)
	expected := hex.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(expected), []byte(signatureHeader)) {
		return errors.New("the signature does not fit")
	}
	return nil
}

// verifyStandardWebhooks returns an error unless the request is signed as Standard Webhooks 1.0 says, and was signed at
// most 5 minutes from now.
func verifyStandardWebhooks(rawBody []byte, header http.Header, secret string, now time.Time) error {
	id, timestamp, signatures := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), header.Get("Webhook-Signature")
	if id == "" || timestamp == "" || signatures == "" {
		return errors.New("a webhook-* header is missing")
	}
	seconds, err := strconv.ParseUint(timestamp, 10, 40)
	if err != nil {
		return errors.New("the timestamp is not a number")
	}
	switch signedAt := time.Unix(int64(seconds), 0); {
	case signedAt.Before(now.Add(-tolerance)):
		return errors.New("the timestamp is too old")
	case signedAt.After(now.Add(tolerance)):
		return errors.New("the timestamp is in the future")
	}

	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return errors.New("the secret is not base64 after whsec_")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(rawBody)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// While a secret is being replaced there is one signature for each that is valid.
	for _, signature := range strings.Split(signatures, " ") {
		if hmac.Equal([]byte(expected), []byte(signature)) {
			return nil
		}
	}
	return errors.New("no signature fits")
}
