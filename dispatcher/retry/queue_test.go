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
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// followed is an index whose changes the test reports.
type followed struct {
	lookup
	tell func(d *v1alpha1.PostbackDelivery, gone bool)
}

func (f *followed) Follow(tell func(*v1alpha1.PostbackDelivery, bool)) { f.tell = tell }

// observing lanes count the observed attempts.
type observing struct{ attempts int }

func (o *observing) Observe(*route.Route, *v1alpha1.Attempt) { o.attempts++ }

func (*observing) Submit(*route.Route, *lane.Work) {}

func TestChangedDeliveryIsQueued(t *testing.T) {
	attempted := v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{Namespace: "partner-acme", Name: "crm-1"},
		Status:     v1alpha1.PostbackDeliveryStatus{AttemptCount: 1, Attempts: []v1alpha1.Attempt{{Outcome: v1alpha1.OutcomeGone}}},
	}
	fresh := v1alpha1.PostbackDelivery{ObjectMeta: attempted.ObjectMeta}
	for name, test := range map[string]struct {
		delivery v1alpha1.PostbackDelivery
		gone     bool
		route    *route.Route
		learned  int
	}{
		"after an attempt of another replica":            {delivery: attempted, route: &route.Route{}, learned: 1},
		"before its first attempt":                       {delivery: fresh, route: &route.Route{}},
		"without a route":                                {delivery: attempted},
		"which is gone: its attempt may be an older one": {delivery: attempted, gone: true, route: &route.Route{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			index, lanes := &followed{lookup: nothing}, &observing{}
			r := &retry.Reconciler{Unfinished: index, Routes: &oneRoute{test.route}, Lanes: lanes}
			queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			t.Cleanup(queue.ShutDown)
			g.Expect(r.Source().Start(t.Context(), queue)).To(Succeed())
			index.tell(&test.delivery, test.gone)
			g.Expect(lanes.attempts).To(Equal(test.learned))
			g.Expect(queue.Len()).To(Equal(1))
			key, _ := queue.Get()
			g.Expect(key).To(Equal(ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&test.delivery)}))
		})
	}
}
