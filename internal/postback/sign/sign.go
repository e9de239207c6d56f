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

// Package sign makes the headers by which an endpoint verifies that a request is authentic.
package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// DefaultDubHeader is the default header of the signature scheme Dub.
const DefaultDubHeader = "Dub-Signature"

// Headers of Standard Webhooks 1.0, in the canonical form of net/http, which saves the conversion in each request.
const (
	webhookIDHeader        = "Webhook-Id"
	webhookTimestampHeader = "Webhook-Timestamp"
	webhookSignatureHeader = "Webhook-Signature"
)

// KeyPrefix is the prefix of a signing key in the form that partners see.
const KeyPrefix = "whsec_"

// Signer signs requests.
type Signer struct {
	dubHeader string
}

// New returns a Signer. dubHeader is the name of the header of the scheme Dub.
func New(dubHeader string) (*Signer, error) {
	if !httpguts.ValidHeaderFieldName(dubHeader) {
		return nil, fmt.Errorf("signature header %q is not an HTTP header name", dubHeader)
	}
	return &Signer{dubHeader: http.CanonicalHeaderKey(dubHeader)}, nil
}

// Headers returns the names of the headers that hold a signature.
func (s *Signer) Headers() []string { return []string{s.dubHeader, webhookSignatureHeader} }

// DecodeKey returns the bytes of a signing key, which is "whsec_" and their padded standard base64. The errors
// contain no part of the key.
func DecodeKey(key string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(key, KeyPrefix)
	if !ok {
		return nil, fmt.Errorf("does not begin with %s", KeyPrefix)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	// The decoder skips line breaks, but receivers may not.
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, fmt.Errorf("is not base64 after %s: use the standard alphabet, with padding", KeyPrefix)
	}
	return raw, nil
}

// Request is the signed content.
type Request struct {
	// ID of the event.
	ID string
	// Time of the attempt.
	Time time.Time
	// Body is the exact bytes that are sent.
	Body []byte
}

// Sign adds the signatures of a request to header, by the given schemes. keys are the signing keys, the current one
// first. The scheme Dub signs with the current key; Standard Webhooks signs with every key. An error quotes no key,
// and leaves header unchanged.
func (s *Signer) Sign(header http.Header, schemes []v1alpha1.SignatureScheme, keys []string, r Request) error {
	if len(keys) == 0 || len(schemes) == 0 {
		return errors.New("no signing key, or no signature scheme")
	}
	signed := http.Header{}
	for _, scheme := range schemes {
		switch scheme {
		case v1alpha1.SignatureDub:
			signed.Set(s.dubHeader, dubSignature(keys[0], r.Body))
		case v1alpha1.SignatureStandardWebhooks:
			if err := setStandardWebhooks(signed, keys, r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown signature scheme %q", scheme)
		}
	}
	for name, values := range signed {
		header[name] = values
	}
	return nil
}

// dubSignature returns the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole key text.
func dubSignature(key string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// setStandardWebhooks signs "{id}.{timestamp}.{body}" with the decoded bytes of each key.
func setStandardWebhooks(header http.Header, keys []string, r Request) error {
	timestamp := strconv.FormatInt(r.Time.Unix(), 10)
	signatures := make([]string, 0, len(keys))
	for i, key := range keys {
		raw, err := DecodeKey(key)
		if err != nil {
			return fmt.Errorf("signing key %d %w", i, err)
		}
		mac := hmac.New(sha256.New, raw)
		mac.Write([]byte(r.ID + "." + timestamp + "."))
		mac.Write(r.Body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set(webhookIDHeader, r.ID)
	header.Set(webhookTimestampHeader, timestamp)
	header.Set(webhookSignatureHeader, strings.Join(signatures, " "))
	return nil
}
