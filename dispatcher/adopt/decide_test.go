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

package adopt

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fromBackup returns a delivery of the Postback crm with the UID "old", without an owner.
func fromBackup(age time.Duration, phase v1alpha1.DeliveryPhase, attempts int32) *v1alpha1.PostbackDelivery {
	d := delivery.FromSpec("partner", v1alpha1.PostbackDeliverySpec{
		PostbackRef: v1alpha1.PostbackReference{Name: "crm", UID: "old"}, Event: v1alpha1.EventReference{ID: "e1", Type: "lead.created"}, Body: "{}",
	})
	d.OwnerReferences, d.CreationTimestamp = nil, metav1.NewTime(now.Add(-age))
	d.Status.Phase, d.Status.AttemptCount = phase, attempts
	if attempts > 0 {
		d.Status.Attempts = []v1alpha1.Attempt{{Number: attempts, PostbackGeneration: 7}}
	}
	return d
}

func TestDecide(t *testing.T) {
	present := &route.Route{Namespace: "partner", Name: "crm", UID: "new"}
	same := &route.Route{Namespace: "partner", Name: "crm", UID: "old"}
	testEvent := fromBackup(time.Hour, v1alpha1.DeliveryRetrying, 1)
	testEvent.Spec.Test = true
	for name, tt := range map[string]struct {
		d      *v1alpha1.PostbackDelivery
		target *route.Route
		want   decision
	}{
		"the status may follow":                 {fromBackup(10*time.Second, v1alpha1.DeliveryPending, 0), present, decision{after: 20 * time.Second}},
		"no status came":                        {fromBackup(statusGrace, v1alpha1.DeliveryPending, 0), present, decision{park: true}},
		"no status came, same Postback":         {fromBackup(statusGrace, v1alpha1.DeliveryPending, 0), same, decision{park: true}},
		"no status and no Postback":             {fromBackup(statusGrace, v1alpha1.DeliveryPending, 0), nil, decision{park: true}},
		"parked":                                {fromBackup(statusGrace, v1alpha1.DeliveryFailed, 0), present, decision{adopt: true}},
		"parked, without its Postback":          {fromBackup(time.Hour, v1alpha1.DeliveryFailed, 0), nil, decision{}},
		"delivered before":                      {fromBackup(0, v1alpha1.DeliveryDelivered, 1), present, decision{adopt: true}},
		"on its way before":                     {fromBackup(0, v1alpha1.DeliveryRetrying, 2), present, decision{adopt: true}},
		"on its way, same Postback":             {fromBackup(0, v1alpha1.DeliveryRetrying, 2), same, decision{regular: true}},
		"on its way, the Postback may follow":   {fromBackup(time.Minute, v1alpha1.DeliveryRetrying, 2), nil, decision{after: 9 * time.Minute}},
		"on its way, and no Postback came":      {fromBackup(postbackGrace, v1alpha1.DeliveryRetrying, 2), nil, decision{park: true}},
		"a test event on its way":               {testEvent, present, decision{park: true}},
		"a clock behind that of the API server": {fromBackup(-time.Hour, v1alpha1.DeliveryPending, 0), present, decision{after: statusGrace}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(tt.d, tt.target, now); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAdoptedDelivery(t *testing.T) {
	target := &route.Route{Namespace: "partner", Name: "crm", UID: "new"}
	posted := delivery.Name(v1alpha1.PostbackReference{Name: "crm", UID: "new"}, "e1")
	t.Run("with a record", func(t *testing.T) {
		a := adopted(fromBackup(0, v1alpha1.DeliveryRetrying, 2), target)
		if a.Name != posted {
			t.Errorf("name %s: the event would not be a duplicate when it is posted again", a.Name)
		}
		if !Owned(a) || a.OwnerReferences[0].UID != "new" || a.Spec.PostbackRef.UID != "new" || a.Labels[v1alpha1.RestoredLabel] != "true" {
			t.Errorf("metadata %+v", a.ObjectMeta)
		}
		if a.Status.AttemptCount != 2 || a.Status.Attempts[0].PostbackGeneration != 0 {
			t.Errorf("status %+v", a.Status)
		}
	})
	t.Run("without a record", func(t *testing.T) {
		d := fromBackup(time.Hour, v1alpha1.DeliveryPending, 0)
		d.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: "1", v1alpha1.DeferredAnnotation: "true"}
		park(d, nil, now)
		if condition := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.DeliveredCondition); condition == nil || condition.Reason != v1alpha1.PostbackNotFoundReason {
			t.Errorf("conditions %+v", d.Status.Conditions)
		}
		if !delivery.RequestOf(d).None() {
			t.Error("a request from before the backup is made again")
		}
		a := adopted(d, target)
		if a.Name == posted {
			t.Error("an event that is posted again would be a duplicate of one that nobody sends")
		}
		if condition := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.DeliveredCondition); condition.Reason != v1alpha1.RestoredReason {
			t.Errorf("conditions %+v", a.Status.Conditions)
		}
		if a.Annotations[v1alpha1.DeferredAnnotation] != "" || a.Status.Phase != v1alpha1.DeliveryFailed {
			t.Errorf("annotations %v, phase %s", a.Annotations, a.Status.Phase)
		}
	})
}
