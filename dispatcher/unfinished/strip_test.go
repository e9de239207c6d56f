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

package unfinished

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// attempted returns a delivery with failed attempts, as a watch returns it.
func attempted(t *testing.T, id string) *v1alpha1.PostbackDelivery {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := delivery.FromSpec("partner-acme", v1alpha1.PostbackDeliverySpec{
		PostbackRef: v1alpha1.PostbackReference{Name: "crm", UID: "0b6f1f52-6a3c-4b5e-9b0a-1f0d2f3a4b5c"},
		Event:       v1alpha1.EventReference{ID: id, Type: "lead.created", CreatedAt: metav1.NewMicroTime(at)},
		Body:        strings.Repeat("x", 1500), Format: v1alpha1.FormatJSON, Test: true,
	})
	d.UID, d.ResourceVersion, d.Generation = types.UID("5b1c8a4e-53c9-4c7c-8f36-"+id), "4711", 1
	d.CreationTimestamp = metav1.NewTime(at)
	d.Finalizers = []string{"foregroundDeletion"}
	d.Annotations = map[string]string{
		"note": strings.Repeat("x", 1000), v1alpha1.RedeliverAnnotation: "own", v1alpha1.PassedRedeliverAnnotation: "passed", v1alpha1.DeferredAnnotation: "Paused",
	}
	d.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: v1alpha1.DispatcherFieldOwner, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
	for number := range int32(2) {
		delivery.Apply(d, &route.Route{}, v1alpha1.Attempt{
			Number: number, Time: metav1.NewMicroTime(at.Add(time.Duration(number) * time.Minute)), Duration: metav1.Duration{Duration: time.Second}, Outcome: v1alpha1.OutcomeFailed5xx,
			StatusCode: ptr.To[int32](503), Message: "503 Service Unavailable", ResponseBody: strings.Repeat("x", 1000), RemoteIP: "198.51.100.7",
			RetryAfterTime: ptr.To(metav1.NewMicroTime(at.Add(time.Duration(number) * time.Hour))), PostbackGeneration: int64(number + 3),
		}, delivery.Request{Redeliver: "before", FromPostback: "before that"})
	}
	// A watch decodes times and strings from JSON, so the test does, too.
	content, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	watched := &v1alpha1.PostbackDelivery{}
	if err := json.Unmarshal(content, watched); err != nil {
		t.Fatal(err)
	}
	return watched
}

func TestStripLeavesWhatIsDecidedBy(t *testing.T) {
	d := attempted(t, "evt_1")
	newest := d.Status.Attempts[1]
	want := &v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion, CreationTimestamp: d.CreationTimestamp,
			Annotations:     map[string]string{v1alpha1.RedeliverAnnotation: "own", v1alpha1.PassedRedeliverAnnotation: "passed", v1alpha1.DeferredAnnotation: "true"},
			OwnerReferences: owned,
		},
		Spec: v1alpha1.PostbackDeliverySpec{PostbackRef: d.Spec.PostbackRef, Test: true},
		Status: v1alpha1.PostbackDeliveryStatus{
			Phase: v1alpha1.DeliveryRetrying, AttemptCount: 2, NextAttemptTime: d.Status.NextAttemptTime,
			Attempts: []v1alpha1.Attempt{{
				Time: newest.Time, Outcome: v1alpha1.OutcomeFailed5xx, RetryAfterTime: newest.RetryAfterTime, PostbackGeneration: 4,
			}},
			LastHandledRedeliver: "before", LastHandledRedeliverFromPostback: "before that",
		},
	}
	for range 2 { // Stripping a list twice changes nothing more.
		strip(d)
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("wrong (-want +got):\n%s", diff)
		}
	}
}

// TestMemoryOfADelivery checks the memory per delivery that docs/tuning.md states. The maps and keys of the cache
// take 300 bytes more.
func TestMemoryOfADelivery(t *testing.T) {
	const deliveries, most = 2000, 1000
	held := make([]*v1alpha1.PostbackDelivery, deliveries)
	before := heap()
	for i := range held {
		held[i] = attempted(t, fmt.Sprintf("%012d", i))
		held[i].Annotations = map[string]string{v1alpha1.DeferredAnnotation: "true"}
		strip(held[i])
	}
	each := (heap() - before) / deliveries
	runtime.KeepAlive(held)
	if each > most {
		t.Errorf("a delivery takes %d bytes, more than %d", each, most)
	}
	t.Logf("a delivery takes %d bytes", each)
}

// heap returns the bytes of live heap objects.
func heap() uint64 {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return memory.HeapAlloc
}
