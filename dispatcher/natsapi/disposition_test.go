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

package natsapi

import (
	"errors"
	"testing"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
)

func TestDispositionOfAMessage(t *testing.T) {
	stored := accept.DeliveryResult{Postback: "crm", Result: intake.Stored}
	skipped := accept.DeliveryResult{Postback: "crm", Result: intake.Skipped, Reason: accept.FilteredOut}
	conflict := accept.DeliveryResult{Postback: "crm", Result: intake.Conflict}
	full := accept.DeliveryResult{Postback: "crm", Result: intake.Refused, Reason: accept.BacklogFull}
	large := accept.DeliveryResult{Postback: "crm", Result: intake.Refused, Reason: intake.TooLarge}
	unstored := accept.DeliveryResult{Postback: "crm", Result: intake.Unstored, Err: errors.New("connection refused")}
	streamFull := accept.DeliveryResult{Postback: "crm", Result: intake.Unstored, Reason: intake.StreamFull, Err: errors.New("maximum bytes exceeded")}
	crowded := accept.DeliveryResult{Postback: "erp", Result: intake.Unstored, Reason: intake.StreamFull, Err: intake.ErrNoRoomToWait}
	duplicate := accept.DeliveryResult{Postback: "crm", Result: intake.Duplicate}
	tests := map[string]struct {
		deliveries []accept.DeliveryResult
		want       disposition
	}{
		"no Postback":                            {want: dispositionTaken},
		"stored":                                 {deliveries: []accept.DeliveryResult{stored, skipped}, want: dispositionTaken},
		"conflict":                               {deliveries: []accept.DeliveryResult{conflict}, want: dispositionTaken},
		"too large":                              {deliveries: []accept.DeliveryResult{large}, want: dispositionTaken},
		"no room":                                {deliveries: []accept.DeliveryResult{full}, want: dispositionFull},
		"no room for one of two":                 {deliveries: []accept.DeliveryResult{full, stored}, want: dispositionTaken},
		"unstored":                               {deliveries: []accept.DeliveryResult{stored, unstored}, want: dispositionAgain},
		"unstored beside no room":                {deliveries: []accept.DeliveryResult{full, unstored}, want: dispositionAgain},
		"no room to wait":                        {deliveries: []accept.DeliveryResult{crowded, skipped}, want: dispositionFull},
		"no room to wait for one of two, stored": {deliveries: []accept.DeliveryResult{crowded, stored}, want: dispositionTaken},
		"no room to wait for one of two, duplicate":  {deliveries: []accept.DeliveryResult{crowded, duplicate}, want: dispositionTaken},
		"no room to wait, and too large for another": {deliveries: []accept.DeliveryResult{crowded, large}, want: dispositionFull},
		"no room to wait beside no room":             {deliveries: []accept.DeliveryResult{crowded, full}, want: dispositionFull},
		"no room to wait beside unstored":            {deliveries: []accept.DeliveryResult{crowded, stored, unstored}, want: dispositionAgain},
		"a full stream of deliveries":                {deliveries: []accept.DeliveryResult{streamFull}, want: dispositionAgain},
		"a stream that becomes full":                 {deliveries: []accept.DeliveryResult{stored, streamFull}, want: dispositionAgain},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := dispositionOf(accept.Results{{ID: "evt_1", Deliveries: test.deliveries}})
			if got != test.want || (err == nil) != (test.want == dispositionTaken) {
				t.Errorf("got %s (%v), want %s", got, err, test.want)
			}
		})
	}
}
