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

package retry_test

import (
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// The endpoint of e1 asked to wait for a day, and its URL has changed since. Neither a restart, nor a label on e1,
// nor a redelivery of e1 brings the wait back.
func TestPauseEndsWithTheEndpointThatAskedForIt(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	r.setRoute(func(target *route.Route) { target.Generation, target.EndpointGeneration = 3, 2 })
	e1 := r.store(t, "evt_1")
	now := time.Now()
	until := ptr.To(metav1.NewMicroTime(now.Add(24 * time.Hour)))
	e1.Status.Phase, e1.Status.AttemptCount, e1.Status.NextAttemptTime = v1alpha1.DeliveryRetrying, 1, until
	e1.Status.Attempts = []v1alpha1.Attempt{{
		Number: 1, Time: metav1.NewMicroTime(now), Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](http.StatusServiceUnavailable),
		RetryAfterTime: until, PostbackGeneration: 1,
	}}
	g.Expect(r.client.Status().Update(t.Context(), e1)).To(Succeed())

	delivered := func(d *v1alpha1.PostbackDelivery, why string) {
		t.Helper()
		g.Eventually(func() v1alpha1.DeliveryPhase { return r.read(t, d).Status.Phase }).
			WithTimeout(time.Minute).Should(Equal(v1alpha1.DeliveryDelivered), why)
	}
	change := func(patch string) {
		t.Helper()
		g.Expect(r.client.Patch(t.Context(), e1, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
	}
	startReplica(t, r, "restarted")
	delivered(r.storeDeferred(t, "evt_2"), "after a restart")
	change(`{"metadata":{"labels":{"team":"billing"}}}`)
	delivered(r.storeDeferred(t, "evt_3"), "after a label on evt_1")
	change(`{"metadata":{"annotations":{"postback.dev/redeliver":"1"}}}`)
	delivered(e1, "at somebody's request")
	delivered(r.storeDeferred(t, "evt_4"), "after that")
}
