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

// Package keyring manages the signing keys in a core Secret: the current one and, in their overlap, the previous
// ones. It decides when a rotation is due and what the Secret then holds. It does no I/O.
package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

const (
	// newKeyBytes is the length of a new key. Standard Webhooks permits minKeyBytes to maxKeyBytes.
	newKeyBytes = 32
	minKeyBytes = 24
	maxKeyBytes = 64
)

// New returns a new signing key: "whsec_" and the base64 of 32 random bytes.
func New() string {
	raw := make([]byte, newKeyBytes)
	// rand.Read never fails: without randomness it ends the program (crypto/rand, Go 1.24 and newer).
	_, _ = rand.Read(raw)
	return sign.KeyPrefix + base64.StdEncoding.EncodeToString(raw)
}

// Validate returns an error with the fault of a signing key and its remedy, without any part of the key. A valid key
// is "whsec_" and the padded standard base64 of 24 to 64 bytes.
func Validate(key string) error {
	if key == "" {
		return errors.New("is empty: put a signing key there")
	}
	if trimmed := strings.TrimRight(key, "\r\n"); trimmed != key {
		return errors.New("ends with a line break: store it without one (printf instead of echo)")
	}
	if strings.TrimSpace(key) != key {
		return errors.New("has a space at its beginning or end: remove it")
	}
	if !strings.HasPrefix(key, sign.KeyPrefix) {
		return fmt.Errorf("does not begin with %s: it must be %s and the base64 of %d to %d bytes", sign.KeyPrefix, sign.KeyPrefix, minKeyBytes, maxKeyBytes)
	}
	raw, err := sign.DecodeKey(key)
	if err != nil {
		return err
	}
	switch {
	case len(raw) < minKeyBytes:
		return fmt.Errorf("is too short: %d bytes after decoding, at least %d are needed", len(raw), minKeyBytes)
	case len(raw) > maxKeyBytes:
		return fmt.Errorf("is too long: %d bytes after decoding, at most %d are allowed", len(raw), maxKeyBytes)
	}
	return nil
}
