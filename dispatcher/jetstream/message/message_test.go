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

package message_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

const names = message.Names(message.DefaultPrefix)

var reference = v1alpha1.PostbackReference{Name: "shop-in-town", UID: "6f1c1c3e-0b1e-4d2f-9c1a-4f5f2f9f3a10"}

func sample(t *testing.T, f v1alpha1.PayloadFormat) *v1alpha1.PostbackDelivery {
	t.Helper()
	d, err := delivery.New("partner", reference, f, &event.Event{
		ID: "order-7", Type: "sale.created", CreatedAt: time.Date(2026, 1, 31, 12, 0, 0, 123e6, time.UTC),
		Data: []byte("{\"ü\": \"\\r\\n\",\n  \"n\": 10000000000000000000001.50}"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeliveryComesBackAsItWas(t *testing.T) {
	for _, f := range []v1alpha1.PayloadFormat{"", v1alpha1.FormatJSON, v1alpha1.FormatCloudEvents} {
		t.Run(string(f), func(t *testing.T) {
			d := sample(t, f)
			d.Annotations = map[string]string{v1alpha1.TraceparentAnnotation: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
			m := names.Delivery(d)
			if got := m.Header.Get(nats.MsgIdHdr); got != "partner/"+d.Name {
				t.Errorf("message id %q", got)
			}
			if hash := d.Name[len("shop-in-town-"):]; m.Subject != "postback.deliveries.partner.6f1c1c3e-0b1e-4d2f-9c1a-4f5f2f9f3a10."+hash {
				t.Errorf("subject %q of delivery %s", m.Subject, d.Name)
			}
			got, err := names.ParseDelivery(m.Subject, m.Header, m.Data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, got); diff != "" {
				t.Errorf("format %q: -want +got:\n%s", f, diff)
			}
		})
	}
}

func TestLogComesBackWithTheStatusOfTheAPIServer(t *testing.T) {
	d := sample(t, "")
	a := v1alpha1.Attempt{
		Time: metav1.NewMicroTime(time.Date(2026, 1, 31, 12, 0, 1, 5000, time.UTC)), Duration: metav1.Duration{Duration: 3 * time.Millisecond},
		Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](204), ResponseBody: "line\r\n\tnext \u2028 <b>", RemoteIP: "192.0.2.1", PostbackGeneration: 4,
	}
	stored := time.Date(2026, 1, 31, 12, 0, 0, 7e8, time.UTC)
	m, err := names.Log(d, stored, a)
	if err != nil {
		t.Fatal(err)
	}
	if hash := d.Name[len("shop-in-town-"):]; m.Subject != "postback.log.partner.6f1c1c3e-0b1e-4d2f-9c1a-4f5f2f9f3a10."+hash {
		t.Errorf("subject %q of delivery %s", m.Subject, d.Name)
	}
	got, err := names.ParseLog(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	want := d.DeepCopy()
	want.CreationTimestamp, want.Generation = metav1.NewTime(stored.Truncate(time.Second)), 1
	delivery.Apply(want, nil, a, delivery.Request{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Status.Phase != v1alpha1.DeliveryDelivered || got.Status.AttemptCount != 1 {
		t.Errorf("status %+v", got.Status)
	}
}

func TestWhatIsNoDeliveryIsRefused(t *testing.T) {
	good := names.Delivery(sample(t, ""))
	if _, err := names.ParseLog(good.Subject, good.Header, good.Data); err == nil {
		t.Error("a delivery without an attempt was taken for a log")
	}
	tests := map[string]struct {
		subject, header, value, want string
	}{
		"other subject": {subject: "postback.events.partner", want: "subject"},
		"no namespace":  {subject: "postback.deliveries..uid.hash", want: "subject"},
		"short subject": {subject: "postback.deliveries.partner.uid", want: "subject"},
		"long subject":  {subject: good.Subject + ".more", want: "subject"},
		"other prefix":  {subject: "other.deliveries.partner.uid.hash", want: "subject"},
		"no level":      {subject: "postback.waiting.partner.uid.0", want: "subject"},
		"beyond levels": {subject: "postback.waiting.partner.uid.7", want: "subject"},
		"no Postback":   {header: message.PostbackHeader, want: message.PostbackHeader},
		"no id":         {header: message.EventIDHeader, want: message.EventIDHeader},
		"bad id":        {header: message.EventIDHeader, value: "a.b", want: message.EventIDHeader},
		"bad type":      {header: message.EventTypeHeader, value: "-", want: message.EventTypeHeader},
		"bad time":      {header: message.CreatedAtHeader, value: "yesterday", want: message.CreatedAtHeader},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := names.Delivery(sample(t, ""))
			if test.subject != "" {
				m.Subject = test.subject
			}
			if test.header != "" {
				m.Header.Set(test.header, test.value)
			}
			if _, err := names.ParseDelivery(m.Subject, m.Header, m.Data); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if _, err := names.ParseDelivery(good.Subject, good.Header, nil); err == nil {
		t.Error("a delivery without a body was taken")
	}
}

func TestPrefixes(t *testing.T) {
	for prefix, want := range map[message.Names]bool{"POSTBACK": true, "team-a_1": true, "": false, "a.b": false, "a b": false, "ü": false, "*": false} {
		t.Run(string(prefix), func(t *testing.T) {
			if got := prefix.Valid(); got != want {
				t.Errorf("Valid(%q) = %v", prefix, got)
			}
		})
	}
	names := message.Names("Team-A")
	for name, test := range map[string]struct{ got, want string }{
		"the whole log":               {names.AllLog(), "team-a.log.>"},
		"all deliveries":              {names.AllDeliveries(), "team-a.deliveries.*.*.*"},
		"deliveries of a namespace":   {names.DeliverySubjects("partner", ""), "team-a.deliveries.partner.>"},
		"deliveries of a Postback":    {names.DeliverySubjects("partner", "uid"), "team-a.deliveries.partner.uid.*"},
		"the log of a Postback":       {names.LogSubjects("partner", "uid"), "team-a.log.partner.uid.*"},
		"the log entry of a delivery": {names.LogSubject("partner", "uid", "a-b-c"), "team-a.log.partner.uid.c"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("subject %q, want %q", test.got, test.want)
			}
		})
	}
}
