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

package controllers

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

func (b *bench) deliveries() []v1alpha1.PostbackDelivery {
	b.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	b.must(b.direct.List(b.ctx, list, client.InNamespace(b.ns)))
	return list.Items
}

func TestTestEvents(t *testing.T) {
	tests := map[string]struct {
		value  string
		state  v1alpha1.PostbackState
		reason string
		stored int
	}{
		"a sample":           {"lead.created", v1alpha1.PostbackEnabled, v1alpha1.TestEventStoredReason, 1},
		"with a token":       {"sale.created/2026-03-01/again", v1alpha1.PostbackEnabled, v1alpha1.TestEventStoredReason, 1},
		"of any type":        {"sale.something.new", v1alpha1.PostbackEnabled, v1alpha1.TestEventStoredReason, 1},
		"while paused":       {"lead.created/x", v1alpha1.PostbackPaused, v1alpha1.TestEventStoredReason, 1},
		"while disabled":     {"lead.created/x", v1alpha1.PostbackDisabled, v1alpha1.TestEventStoredReason, 1},
		"not subscribed":     {"commission.created", v1alpha1.PostbackEnabled, v1alpha1.TestEventNotSubscribedReason, 0},
		"a number alone":     {"1", v1alpha1.PostbackEnabled, v1alpha1.TestEventNotSubscribedReason, 0},
		"not a type":         {"lead created", v1alpha1.PostbackEnabled, v1alpha1.TestEventInvalidReason, 0},
		"a token alone":      {"/x", v1alpha1.PostbackEnabled, v1alpha1.TestEventInvalidReason, 0},
		"a pattern":          {"sale.*", v1alpha1.PostbackEnabled, v1alpha1.TestEventInvalidReason, 0},
		"longer than a type": {strings.Repeat("ä", 4000), v1alpha1.PostbackEnabled, v1alpha1.TestEventInvalidReason, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.State = test.state }))
			b.settle("crm")
			b.told()
			annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.SendTestAnnotation, test.value)
			b.settle("crm")
			checkTestEvent(t, b, test.value, test.reason, test.stored)
		})
	}
}

func checkTestEvent(t *testing.T, b *bench, value, reason string, stored int) {
	t.Helper()
	status := b.postback("crm").Status
	condition := meta.FindStatusCondition(status.Conditions, v1alpha1.TestEventCondition)
	if condition == nil || condition.Reason != reason || (condition.Status == "True") != (stored == 1) {
		t.Fatalf("condition %+v", condition)
	}
	if status.LastHandledSendTest != v1alpha1.HandledToken(value) {
		t.Errorf("handled %q", status.LastHandledSendTest)
	}
	want := "Normal TestEventStored"
	if stored == 0 {
		want = "Warning TestEventRefused"
	}
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], want) {
		t.Errorf("events %q, want %s", told, want)
	}
	deliveries := b.deliveries()
	if len(deliveries) != stored {
		t.Fatalf("%d deliveries", len(deliveries))
	}
	if stored == 0 {
		if !strings.Contains(condition.Message, "<event type>/<token>") {
			t.Errorf("the message does not show the form: %s", condition.Message)
		}
		return
	}
	d := deliveries[0]
	eventType, _, _ := strings.Cut(value, "/")
	if !d.Spec.Test || d.Spec.Event.Type != eventType || !strings.Contains(d.Spec.Body, string(event.Sample(eventType))) || !strings.Contains(condition.Message, d.Name) {
		t.Errorf("delivery %+v; %s", d.Spec, condition.Message)
	}
}

// The data of the annotation go out byte for byte.
func TestTestEventWithData(t *testing.T) {
	tests := map[string]struct{ data, reason, says string }{
		"as given":      {`{"b":1.00,  "a":12345678901234567890}`, v1alpha1.TestEventStoredReason, "is stored"},
		"not an object": {`[1]`, v1alpha1.TestEventInvalidDataReason, "must be an object"},
		"not JSON":      {`{"a":`, v1alpha1.TestEventInvalidDataReason, v1alpha1.SendTestDataAnnotation},
		"more follows":  {`{} , "id": "mine"`, v1alpha1.TestEventInvalidDataReason, v1alpha1.SendTestDataAnnotation},
		"empty":         {``, v1alpha1.TestEventInvalidDataReason, "empty"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostback("crm", func(p *v1alpha1.Postback) {
				p.Annotations = map[string]string{v1alpha1.SendTestAnnotation: "lead.created/1", v1alpha1.SendTestDataAnnotation: test.data}
			}))
			b.settle("crm")
			condition := meta.FindStatusCondition(b.postback("crm").Status.Conditions, v1alpha1.TestEventCondition)
			if condition == nil || condition.Reason != test.reason || !strings.Contains(condition.Message, test.says) {
				t.Fatalf("condition %+v", condition)
			}
			deliveries := b.deliveries()
			if stored := test.reason == v1alpha1.TestEventStoredReason; len(deliveries) != 0 != stored {
				t.Fatalf("%d deliveries", len(deliveries))
			}
			for i := range deliveries {
				if !strings.Contains(deliveries[i].Spec.Body, `"data":`+test.data+`}`) {
					t.Errorf("body %s", deliveries[i].Spec.Body)
				}
			}
		})
	}
}

// A request is answered once, even if the manager crashes before it records the answer.
func TestTestEventIsStoredOnceDespiteACrash(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.SendTestAnnotation, "lead.created")
	b.faulty.arm(2, false)
	if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err == nil {
		t.Fatal("the status write did not fail")
	}
	if !slices.Equal(b.faulty.kinds, []string{"create *v1alpha1.PostbackDelivery", "patch status *v1alpha1.Postback"}) {
		t.Errorf("writes %v", b.faulty.kinds)
	}
	b.restart()
	b.clock.Step(1e9)
	b.settle("crm")
	b.settle("crm")
	if deliveries := b.deliveries(); len(deliveries) != 1 {
		t.Errorf("%d deliveries", len(deliveries))
	}
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.SendTestAnnotation, "lead.created/2")
	b.settle("crm")
	if deliveries := b.deliveries(); len(deliveries) != 2 {
		t.Errorf("%d deliveries after a second request", len(deliveries))
	}
}

// An earlier value, set again, sends nothing, and the message says so.
func TestTestEventOfAnEarlierValueIsNotSentAgain(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	ask := func(value string) (message string) {
		t.Helper()
		annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.SendTestAnnotation, value)
		b.settle("crm")
		status := b.postback("crm").Status
		if status.LastHandledSendTest != value {
			t.Errorf("handled %q", status.LastHandledSendTest)
		}
		return meta.FindStatusCondition(status.Conditions, v1alpha1.TestEventCondition).Message
	}
	for _, step := range []struct{ value, want string }{
		{"lead.created/a", "is stored"}, {"lead.created/b", "is stored"}, {"lead.created/a", "use another token"},
	} {
		if message := ask(step.value); !strings.Contains(message, step.want) {
			t.Errorf("%s: %s, want %s", step.value, message, step.want)
		}
	}
	if deliveries := b.deliveries(); len(deliveries) != 2 {
		t.Errorf("%d deliveries", len(deliveries))
	}
}

// A test event waits until the Postback has a route.
func TestTestEventWaitsForTheRoute(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "later"}
		p.Annotations = map[string]string{v1alpha1.SendTestAnnotation: "lead.created"}
	}))
	b.settle("crm")
	if deliveries := b.deliveries(); len(deliveries) != 0 || b.postback("crm").Status.LastHandledSendTest != "" {
		t.Errorf("%d deliveries without a route", len(deliveries))
	}
	b.create(newPostbackSecret("later", nil))
	b.settleSecret("later")
	b.settle("crm")
	if deliveries := b.deliveries(); len(deliveries) != 1 {
		t.Errorf("%d deliveries", len(deliveries))
	}
}
