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
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Names of a keyring's entries in a core Secret. The current key is under v1alpha1.SigningKeyName.
const (
	// previousPrefix, followed by a version, is the data key of a previous key.
	previousPrefix = "previous-"
	// externalPreviousName is the data key of the previous key in an external Secret.
	externalPreviousName = "previous"

	// VersionAnnotation holds the number of the current key.
	VersionAnnotation = "postback.dev/version"
	// RotatedAtAnnotation is the time at which the current key was made, in RFC 3339.
	RotatedAtAnnotation = "postback.dev/rotated-at"
	// retiredPrefix, followed by a version, is the annotation with the time at which that key was replaced.
	retiredPrefix = "postback.dev/retired-"
	// HandledAnnotation and HandledPassedAnnotation hold the tokens of the newest answered rotation requests: one on
	// the PostbackSecret, and one that a Postback passed on.
	HandledAnnotation       = "postback.dev/handled-rotate-secret"
	HandledPassedAnnotation = "postback.dev/handled-rotate-secret-from-postback"
)

// Bounds of versions, because users can edit them. maxAnnotatedVersion bounds the annotation, so that rotations can
// still count beyond it. maxVersion bounds the names of previous keys, so that the counter cannot overflow.
const (
	maxAnnotatedVersion = 1 << 32
	maxVersion          = 1 << 40
)

// Remembered is the record of a Secret in the status. It replaces missing or invalid annotations.
type Remembered struct {
	// Version is the highest version known to have been in use, or 0.
	Version int64
	// RotatedAt is the time at which the current key was made, or zero.
	RotatedAt time.Time
	// Handled are the last handled rotation requests.
	Handled Requests
}

// Read returns the keyring in a generated Secret. It never fails, and an edited annotation loses no key:
//   - the version is the highest plausible one of the annotation, the previous keys and remembered;
//   - without a readable time, the current key counts as made at the remembered time, or with the Secret;
//   - without a readable time, a previous key counts as retired now;
//   - without its annotation, a handled token is the remembered one.
//
// Read omits invalid keys: Current is "" if the current key is invalid, and Previous lacks invalid ones.
func Read(secret *corev1.Secret, remembered Remembered, now time.Time) Keyring {
	now = now.UTC().Truncate(time.Second)
	k := Keyring{Version: max(1, min(remembered.Version, maxVersion))}
	if version := numberOf(secret.Annotations[VersionAnnotation]); version <= maxAnnotatedVersion {
		k.Version = max(k.Version, version)
	}
	if current := string(secret.Data[v1alpha1.SigningKeyName]); Validate(current) == nil {
		k.Current = current
	}
	for name, value := range secret.Data {
		suffix, ok := strings.CutPrefix(name, previousPrefix)
		version := numberOf(suffix)
		if !ok || version == 0 || version > maxVersion || Validate(string(value)) != nil {
			continue
		}
		retired, ok := timeOf(secret.Annotations[retiredPrefix+suffix])
		if !ok {
			retired = now
		}
		k.Previous = append(k.Previous, Previous{Version: version, Key: string(value), RetiredAt: retired})
		k.Version = max(k.Version, version+1)
	}
	sortNewestFirst(k.Previous)
	k.RotatedAt = rotatedAt(secret, remembered)
	k.Handled = remembered.Handled
	if handled, ok := secret.Annotations[HandledAnnotation]; ok {
		k.Handled.Own = v1alpha1.HandledToken(handled)
	}
	if handled, ok := secret.Annotations[HandledPassedAnnotation]; ok {
		k.Handled.Passed = v1alpha1.HandledToken(handled)
	}
	return k
}

// Restorable reports whether a Secret has the version annotation of a generated key, and a valid key.
func Restorable(secret *corev1.Secret) bool {
	return numberOf(secret.Annotations[VersionAnnotation]) > 0 && Validate(string(secret.Data[v1alpha1.SigningKeyName])) == nil
}

func rotatedAt(secret *corev1.Secret, remembered Remembered) time.Time {
	if at, ok := timeOf(secret.Annotations[RotatedAtAnnotation]); ok {
		return at
	}
	if !remembered.RotatedAt.IsZero() {
		return remembered.RotatedAt.UTC().Truncate(time.Second)
	}
	return secret.CreationTimestamp.UTC()
}

// Write puts the keyring into a Secret and removes the entries of an earlier keyring. It does not change other
// entries.
func (k Keyring) Write(secret *corev1.Secret) {
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	for name := range secret.Data {
		if suffix, ok := strings.CutPrefix(name, previousPrefix); ok && numberOf(suffix) != 0 {
			delete(secret.Data, name)
		}
	}
	for name := range secret.Annotations {
		if strings.HasPrefix(name, retiredPrefix) {
			delete(secret.Annotations, name)
		}
	}
	secret.Data[v1alpha1.SigningKeyName] = []byte(k.Current)
	secret.Annotations[VersionAnnotation] = strconv.FormatInt(k.Version, 10)
	secret.Annotations[RotatedAtAnnotation] = k.RotatedAt.UTC().Format(time.RFC3339)
	if k.Handled.Own != "" {
		secret.Annotations[HandledAnnotation] = k.Handled.Own
	}
	if k.Handled.Passed != "" {
		secret.Annotations[HandledPassedAnnotation] = k.Handled.Passed
	}
	for _, previous := range k.Previous {
		suffix := strconv.FormatInt(previous.Version, 10)
		secret.Data[previousPrefix+suffix] = []byte(previous.Key)
		secret.Annotations[retiredPrefix+suffix] = previous.RetiredAt.UTC().Format(time.RFC3339)
	}
}

// Generated returns the signing keys in a generated Secret, the current one first.
func Generated(secret *corev1.Secret) ([]string, error) {
	if err := checkData(secret, v1alpha1.SigningKeyName); err != nil {
		return nil, err
	}
	return Read(secret, Remembered{}, time.Time{}).Keys(), nil
}

// External returns the keys in an external Secret: the current one and, if present, the previous one. The error is a
// *NotFoundError or describes the fault, without any part of a key.
func External(secret *corev1.Secret) ([]string, error) {
	var keys []string
	for _, name := range []string{v1alpha1.SigningKeyName, externalPreviousName} {
		if _, ok := secret.Data[name]; !ok && name == externalPreviousName {
			continue
		}
		if err := checkData(secret, name); err != nil {
			return nil, err
		}
		keys = append(keys, string(secret.Data[name]))
	}
	return slices.Compact(keys), nil
}

func checkData(secret *corev1.Secret, name string) error {
	value, ok := secret.Data[name]
	if !ok {
		return &NotFoundError{Secret: secret.Name, DataKey: name}
	}
	if err := Validate(string(value)); err != nil {
		return fmt.Errorf("data key %q of Secret %q %w", name, secret.Name, err)
	}
	return nil
}

// NotFoundError means that a Secret has no signing key.
type NotFoundError struct {
	Secret, DataKey string
}

// Error names the Secret and the data key.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("Secret %q has no data key %q", e.Secret, e.DataKey)
}

// numberOf returns the positive decimal number in a text, or 0 if the text is anything else.
func numberOf(text string) int64 {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 || strconv.FormatInt(number, 10) != text {
		return 0
	}
	return number
}

func timeOf(text string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, false
	}
	return at.UTC().Truncate(time.Second), true
}
