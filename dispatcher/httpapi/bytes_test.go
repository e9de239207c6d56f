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

package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/doors"
)

// filled returns an event of size bytes whose data repeats a text.
func filled(piece string, size int) string {
	const head, tail = `{"id":"evt_1","event":"x","createdAt":"2026-01-01T00:00:00.000Z","data":{"a":"`, `"}}`
	n := (size - len(head) - len(tail)) / len(piece)
	rest := size - len(head) - len(tail) - n*len(piece)
	return head + strings.Repeat(piece, n) + strings.Repeat("x", rest) + tail
}

func TestDataIsStoredByteForByte(t *testing.T) {
	c := doors.Client(t, cp.Config)
	tests := map[string]string{
		"unicode":       `{"é":"日本語 \u65e5 \ud83d\ude00 😀 \u2028\u2029","":"\u0000\u001f\/\b"}`,
		"numbers":       `{"n":[12345678901234567890123,0.1000000000000000055511151231257827,1E300,-0,1.0,1e-7]}`,
		"order":         `{"z":1,"a":{"y":2,"b":3},"m":4}`,
		"white space":   "{ \"a\" :\t[ 1 ,\r\n 2 ]  }",
		"HTML":          `{"a":"<script>&amp;</script>\u003c"}`,
		"special names": `{"id":"x","__proto__":{"constructor":1},"$ref":"#"}`,
	}
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, _ := testOptions(c, crm)
	server := testServer(t, options)
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(name, " ", "-")
			body := fmt.Sprintf(`{"createdAt":"2026-01-01T00:00:00.000Z", "data":%s, "event":"x", "id":%q}`, data, id)
			if got := post(t, server.URL, namespace, body); got.code != http.StatusAccepted {
				t.Fatalf("got %d: %s", got.code, got.raw)
			}
			var d v1alpha1.PostbackDelivery
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: nameOf(crm, id)}, &d); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(`{"id":%q,"event":"x","createdAt":"2026-01-01T00:00:00.000Z","data":%s}`, id, data); d.Spec.Body != want {
				t.Errorf("got  %s\nwant %s", d.Spec.Body, want)
			}
			if got := post(t, server.URL, namespace, body); got.code != http.StatusAccepted || got.Events[0].Deliveries[0].Result != intake.Duplicate {
				t.Errorf("sent again: got %d: %s", got.code, got.raw)
			}
		})
	}
}

func TestLargestBody(t *testing.T) {
	c := doors.Client(t, cp.Config)
	for name, piece := range map[string]string{"letters": "x", "quotes": `\"`, "backslashes": `\\`, "unicode": "日", "line separators": "\u2028"} {
		t.Run(name, func(t *testing.T) {
			namespace := doors.Namespace(t, c, "ingest-")
			crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
			options, _ := testOptions(c, crm)
			body := filled(piece, DefaultMaxBodyBytes)
			got := post(t, testServer(t, options).URL, namespace, body)
			if got.code != http.StatusAccepted {
				t.Fatalf("got %d: %.1000s", got.code, got.raw)
			}
			for _, d := range doors.Deliveries(t, c, namespace) {
				if d.Spec.Body != body {
					t.Errorf("the stored body differs: %d bytes, want %d", len(d.Spec.Body), len(body))
				}
			}
		})
	}
}

// Kubernetes stores escaped JSON, so a body may exceed the limit of etcd or the API server.
func TestTooLargeOnceEscaped(t *testing.T) {
	c := doors.Client(t, cp.Config)
	tests := map[string]struct {
		piece string
		size  int
		code  int
	}{
		"at the default limit":         {"<", DefaultMaxBodyBytes, http.StatusRequestEntityTooLarge},
		"no room for the log":          {"<", 240_000, http.StatusRequestEntityTooLarge},
		"at the largest limit":         {"x", largestMaxBodyBytes, http.StatusAccepted},
		"too large for etcd":           {`\"`, largestMaxBodyBytes, http.StatusRequestEntityTooLarge},
		"too large for the API server": {"<", largestMaxBodyBytes, http.StatusRequestEntityTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			namespace := doors.Namespace(t, c, "ingest-")
			crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
			options, offered := testOptions(c, crm)
			options.MaxBodyBytes = largestMaxBodyBytes
			got := post(t, testServer(t, options).URL, namespace, filled(tt.piece, tt.size))
			if tt.code == http.StatusAccepted {
				expect(t, got, tt.code, []accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "evt_1"), Result: intake.Stored}})
				return
			}
			expect(t, got, tt.code, []accept.DeliveryResult{{Postback: "crm", Result: intake.Refused, Reason: intake.TooLarge}})
			if got.Type != "urn:postback:problem:event-too-large" || len(offered.Sorted()) > 0 {
				t.Errorf("got %s", got.raw)
			}
		})
	}
}

// A stored delivery leaves room for the longest list of attempts: an attempt that cannot be recorded would be
// repeated.
func TestStoredLeavesRoomForTheLog(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, _ := testOptions(c, crm)
	got := post(t, testServer(t, options).URL, namespace, filled("<", 200_000))
	expect(t, got, http.StatusAccepted, []accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "evt_1"), Result: intake.Stored}})

	d := doors.Deliveries(t, c, namespace)[0]
	for i := range v1alpha1.MaxRecordedAttempts {
		d.Status.Attempts = append(d.Status.Attempts, v1alpha1.Attempt{
			Number: int32(i + 1), Time: metav1.NowMicro(), Outcome: v1alpha1.OutcomeRejected4xx,
			Message: strings.Repeat("<", v1alpha1.MaxMessage), ResponseBody: strings.Repeat("<", v1alpha1.MaxResponseBody),
		})
	}
	if err := c.Status().Update(t.Context(), &d); err != nil {
		t.Error(err)
	}
}
