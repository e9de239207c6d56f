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

package plugin

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Another Postback's delivery does not replace one that is no longer kept: the result says which Postback lacks it,
// and since when.
func TestLookupSaysWhatIsNoLongerKept(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	postback := func(name string, delivered int32) *v1alpha1.Postback {
		return &v1alpha1.Postback{
			ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: name, CreationTimestamp: metav1.NewTime(now.Add(-24 * time.Hour))},
			Spec:       v1alpha1.PostbackSpec{Triggers: []v1alpha1.Trigger{"lead.*"}, History: &v1alpha1.History{Delivered: &delivered}},
		}
	}
	delivery := func(postback, id string, ago time.Duration) *v1alpha1.PostbackDelivery {
		at := now.Add(-ago)
		return &v1alpha1.PostbackDelivery{
			ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: postback + "-" + id, UID: "u", CreationTimestamp: metav1.NewTime(at)},
			Spec:       v1alpha1.PostbackDeliverySpec{PostbackRef: v1alpha1.PostbackReference{Name: postback}, Event: v1alpha1.EventReference{ID: id, Type: "lead.created"}},
			Status:     v1alpha1.PostbackDeliveryStatus{Phase: v1alpha1.DeliveryDelivered, CompletionTime: ptr.To(metav1.NewMicroTime(at))},
		}
	}
	s := &scope{namespace: "acme", WithWatch: fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		postback("crm", 1), postback("shop", 100), delivery("shop", "old", 2*time.Hour), delivery("shop", "new", time.Hour), delivery("crm", "new", time.Hour),
	).Build()}
	const noLonger = "Postback crm keeps the newest 1 delivered events (spec.history.delivered): what was delivered before 2026-03-10T11:00:00Z is no longer kept."

	found, err := s.lookup(t.Context(), "old", "", now)
	if err != nil || len(found.deliveries) != 1 || found.deliveries[0].Spec.PostbackRef.Name != "shop" {
		t.Fatalf("found %+v, %v", found, err)
	}
	missing := s.missing(t.Context(), found, now)
	if want := "Postback crm takes lead.created, too, and has no delivery of this event. " + noLonger; len(missing) != 1 || missing[0] != want {
		t.Errorf("got %q, want %q", missing, want)
	}
	if found, err = s.lookup(t.Context(), "new", "", now); err != nil || len(found.deliveries) != 2 || len(s.missing(t.Context(), found, now)) != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	for name, test := range map[string]struct{ event, postback string }{
		"an older event of a Postback": {"old", "crm"},
		"an event of no Postback":      {"never", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.lookup(t.Context(), test.event, test.postback, now); err == nil || !strings.Contains(err.Error(), noLonger) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
