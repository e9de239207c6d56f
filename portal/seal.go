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

package portal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Purposes of sealed values. A value sealed for one purpose does not open for another.
const (
	purposeSession = "session"
	purposeLink    = "link"
	purposeAttempt = "attempt"
)

const (
	// minKey is the least length of a key in the file, in characters: 32 random bytes in base64 have 44.
	minKey = 32
	// maxKeys bounds the keys in the file: the present one, and earlier ones.
	maxKeys = 4
	keySize = 32
)

// sealer encrypts values that the portal gives away and must get back unchanged. All replicas share its keys.
type sealer struct {
	// keys has the present key first. The others open values that were sealed before.
	keys []cipher.AEAD
}

// newSealer reads the keys in a file's content, one on each line, the present one first.
func newSealer(content string) (*sealer, error) {
	s := &sealer{}
	for line := range strings.Lines(content) {
		secret := strings.TrimSpace(line)
		switch {
		case secret == "":
			continue
		case len(secret) < minKey:
			return nil, fmt.Errorf("a session key has %d characters, and needs at least %d: make one with openssl rand -base64 32", len(secret), minKey)
		case len(s.keys) == maxKeys:
			return nil, fmt.Errorf("the file holds more than %d session keys: remove the oldest", maxKeys)
		}
		derived, err := hkdf.Key(sha256.New, []byte(secret), nil, "postback-portal", keySize)
		if err != nil {
			return nil, fmt.Errorf("derive a key: %w", err)
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, aead)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("the file holds no session key: make one with openssl rand -base64 32")
	}
	return s, nil
}

// seal encrypts a value. Only open with the same purpose and context decrypts it.
func (s *sealer) seal(purpose, context string, value any) (string, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	aead := s.keys[0]
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // rand.Read never fails.
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, bound(purpose, context))), nil
}

// open decrypts a sealed value. It returns false for anything that seal did not make.
func (s *sealer) open(purpose, context, sealed string, value any) bool {
	content, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return false
	}
	for _, aead := range s.keys {
		if len(content) < aead.NonceSize() {
			return false
		}
		nonce, text := content[:aead.NonceSize()], content[aead.NonceSize():]
		if plain, err := aead.Open(nil, nonce, text, bound(purpose, context)); err == nil {
			return json.Unmarshal(plain, value) == nil
		}
	}
	return false
}

func bound(purpose, context string) []byte { return []byte(purpose + "\x00" + context) }
