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

package history

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func delivered(ago time.Duration) *v1alpha1.PostbackDelivery {
	return &v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-ago - time.Minute))},
		Status:     v1alpha1.PostbackDeliveryStatus{Phase: v1alpha1.DeliveryDelivered, CompletionTime: ptr.To(metav1.NewMicroTime(now.Add(-ago)))},
	}
}

func TestSince(t *testing.T) {
	failed := delivered(time.Hour)
	failed.Status.Phase = v1alpha1.DeliveryFailed
	two := &v1alpha1.History{Delivered: ptr.To[int32](2)}
	tests := map[string]struct {
		history    *v1alpha1.History
		age        time.Duration
		deliveries []*v1alpha1.PostbackDelivery
		since      time.Duration // before now; 0 means that all are kept
		says       string
	}{
		"none yet":                        {age: time.Hour},
		"fewer than are kept":             {history: two, age: time.Hour, deliveries: []*v1alpha1.PostbackDelivery{delivered(30 * time.Minute), failed}},
		"as many as are kept":             {history: two, age: time.Hour, deliveries: []*v1alpha1.PostbackDelivery{delivered(6 * time.Minute), delivered(30 * time.Minute)}, since: 30 * time.Minute, says: "the newest 2 delivered"},
		"of these one is too young":       {history: two, age: time.Hour, deliveries: []*v1alpha1.PostbackDelivery{delivered(time.Minute), delivered(30 * time.Minute)}, since: 30 * time.Minute, says: "the newest 2 delivered"},
		"all of these are too young":      {history: two, age: time.Hour, deliveries: []*v1alpha1.PostbackDelivery{delivered(time.Minute), delivered(2 * time.Minute)}, since: Grace, says: "the newest 2 delivered"},
		"no delivered ones":               {history: &v1alpha1.History{Delivered: ptr.To[int32](0)}, age: time.Hour, since: Grace, says: "5 minutes only"},
		"older than the default of a TTL": {age: 1000 * time.Hour, since: 168 * time.Hour, says: "for 168h"},
		"count before TTL":                {history: two, age: 1000 * time.Hour, deliveries: []*v1alpha1.PostbackDelivery{delivered(time.Hour), delivered(2 * time.Hour)}, since: 2 * time.Hour, says: "the newest 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{
				ObjectMeta: metav1.ObjectMeta{Name: "crm", CreationTimestamp: metav1.NewTime(now.Add(-test.age))}, Spec: v1alpha1.PostbackSpec{History: test.history},
			}
			kept := &Kept{}
			for _, d := range test.deliveries {
				kept.Add(d)
			}
			since, says := kept.Since(p, now)
			if test.since == 0 && (!since.IsZero() || says != "") || test.since != 0 && !since.Equal(now.Add(-test.since)) || !strings.Contains(says, test.says) {
				t.Errorf("since %s: %q; want %s before now, %q", since, says, test.since, test.says)
			}
		})
	}
}
