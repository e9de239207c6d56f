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

// Package event reads, checks and writes events: the envelope {"id", "event", "createdAt", "data"}, and CloudEvents.
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

// TimeFormat is the format of createdAt: RFC 3339 with milliseconds, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Event is an event, such as a sale.
type Event struct {
	ID        string
	Type      string
	CreatedAt time.Time
	// Data is a JSON object, byte for byte as the producer sent it.
	Data json.RawMessage
	// CloudEvent holds the further attributes of an event that arrived as a CloudEvent; otherwise it is nil.
	CloudEvent *CloudEvent
}

// Body returns the bytes that endpoints get and that signatures cover. ID and Type must be valid, because Body does
// not escape them.
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

// ValidType reports whether a string is an event type: at most 63 characters, in segments of letters, digits, _ and -
// that full stops join. A valid type can be the value of a label.
func ValidType(s string) bool {
	return len(s) <= v1alpha1.MaxEventTypeLength && typePattern.MatchString(s)
}

// ValidID reports whether a string is an event id: at most 128 letters, digits and _ : / + = @ ~ -. Standard Webhooks
// forbids a full stop, which would make its signed text ambiguous.
func ValidID(s string) bool {
	return len(s) <= v1alpha1.MaxEventIDLength && idPattern.MatchString(s)
}

const (
	idPrefix   = "evt_"
	idLength   = 25
	idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewID returns a random event id: "evt_" and 25 letters and digits, which are 148 bits.
func NewID() string {
	return idFrom(rand.Text() + rand.Text())
}

// DerivedID returns an event id in the form of NewID that depends only on its arguments.
func DerivedID(parts ...string) string {
	var seed []byte
	for _, part := range parts {
		seed = binary.AppendUvarint(seed, uint64(len(part)))
		seed = append(seed, part...)
	}
	return idFrom(string(seed))
}

// TestID returns the id of the test event that a value of the send-test annotation requests.
func TestID(postbackUID, request string) string { return DerivedID("test", postbackUID, request) }

func idFrom(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	id := make([]byte, 0, len(idPrefix)+idLength)
	id = append(id, idPrefix...)
	// Long division of the digest by the alphabet's length: each digit is uniform to within 2^-100.
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
