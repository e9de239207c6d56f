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

// Package event is the envelope in which events arrive and leave: {"id", "event", "createdAt", "data"}.
package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TimeFormat is how createdAt is written: RFC 3339 with milliseconds, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Event is something that happened on the platform.
type Event struct {
	ID        string
	Type      string
	CreatedAt time.Time
	// Data is a JSON object, byte for byte as the producer sent it.
	Data json.RawMessage
	// CloudEvent contains further attributes of an event that arrived as a CloudEvent, or is nil.
	CloudEvent *CloudEvent
}

// Body returns the bytes that endpoints get, and that signatures cover. ID and Type have to be valid, so that they need
// no escaping.
func (e *Event) Body() []byte {
	body := make([]byte, 0, len(e.ID)+len(e.Type)+len(e.Data)+80)
	body = append(body, `{"id":"`...)
	body = append(body, e.ID...)
	body = append(body, `","event":"`...)
	body = append(body, e.Type...)
	body = append(body, `","createdAt":"`...)
	body = e.CreatedAt.UTC().AppendFormat(body, TimeFormat)
	body = append(body, `","data":`...)
	body = append(body, e.Data...)
	return append(body, '}')
}

var (
	typePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$`)
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9_:/+=@~-]+$`)
)

// ValidType reports whether a string is an event type: at most 63 characters, segments of letters, digits, _ and -,
// joined by full stops. So a type can be a label's value.
func ValidType(s string) bool {
	return len(s) <= v1alpha1.MaxEventTypeLength && typePattern.MatchString(s)
}

// ValidID reports whether a string is an event id: at most 128 of letters, digits and _ : / + = @ ~ -. A full stop
// would make the signed text of Standard Webhooks ambiguous, which its specification forbids.
func ValidID(s string) bool {
	return len(s) <= v1alpha1.MaxEventIDLength && idPattern.MatchString(s)
}

const (
	idPrefix   = "evt_"
	idLength   = 25
	idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewID returns a new random event id: "evt_" and 25 letters and digits (148 bits).
func NewID() string {
	return idFrom(rand.Text() + rand.Text())
}

// DerivedID returns an event id that depends on its arguments alone, in the form of NewID.
func DerivedID(parts ...string) string {
	var seed []byte
	for _, part := range parts {
		seed = binary.AppendUvarint(seed, uint64(len(part)))
		seed = append(seed, part...)
	}
	return idFrom(string(seed))
}

// TestID returns the id of the test event that a value of the send-test annotation asks for.
func TestID(postbackUID, request string) string { return DerivedID("test", postbackUID, request) }

func idFrom(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	id := make([]byte, 0, len(idPrefix)+idLength)
	id = append(id, idPrefix...)
	// Long division of the digest by the alphabet's length: each digit is even to within 2^-100.
	for range idLength {
		remainder := 0
		for i := range sum {
			remainder = remainder<<8 | int(sum[i])
			sum[i] = byte(remainder / len(idAlphabet))
			remainder %= len(idAlphabet)
		}
		id = append(id, idAlphabet[remainder])
	}
	return string(id)
}
