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

package message

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// MaxStatus bounds the encoded status in a message, in bytes. NATS bounds all headers together to 64 KiB.
const MaxStatus = 32 << 10

// Retry returns the message of a delivery with attempts that waits for its next one. stored is when the delivery was
// accepted. The id includes the number of attempts, so that NATS refuses a second copy within the duplicate window.
func (n Names) Retry(d *v1alpha1.PostbackDelivery, stored time.Time) (*nats.Msg, error) {
	level := Levels
	if d.Status.NextAttemptTime != nil {
		level = delivery.Level(d.Status.Round.Attempts)
	}
	m := n.message(n.RetrySubject(d.Namespace, d.Spec.PostbackRef.UID, level), d)
	at := stored.UTC().Format(time.RFC3339Nano)
	m.Header.Set(nats.MsgIdHdr, ID(d)+"/"+at+"/"+strconv.Itoa(int(d.Status.AttemptCount)))
	m.Header.Set(StoredAtHeader, at)
	return m, setStatus(m, &d.Status)
}

// AttemptCount returns the number of failed attempts in the status of a message.
func AttemptCount(header nats.Header) (int32, error) {
	var status v1alpha1.PostbackDeliveryStatus
	err := parseStatus(header, &status)
	return status.AttemptCount, err
}

func parseStatus(header nats.Header, status *v1alpha1.PostbackDeliveryStatus) error {
	encoded := header.Get(StatusHeader)
	if encoded == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(encoded), status); err != nil {
		return fmt.Errorf("header %s: %w", StatusHeader, err)
	}
	return nil
}

func setStatus(m *nats.Msg, status *v1alpha1.PostbackDeliveryStatus) error {
	encoded, err := encodeStatus(status)
	if err != nil {
		return fmt.Errorf("encode the status of message %s: %w", m.Subject, err)
	}
	m.Header.Set(StatusHeader, string(encoded))
	return nil
}

// encodeStatus encodes a status within MaxStatus. If it is too long, the oldest attempts lose their texts first.
func encodeStatus(status *v1alpha1.PostbackDeliveryStatus) ([]byte, error) {
	encoded, err := json.Marshal(status)
	if err != nil || len(encoded) <= MaxStatus {
		return encoded, err
	}
	short := status.DeepCopy()
	for i := range short.Attempts {
		short.Attempts[i].Message, short.Attempts[i].ResponseBody = "", ""
		if encoded, err = json.Marshal(short); err != nil || len(encoded) <= MaxStatus {
			break
		}
	}
	return encoded, err
}
