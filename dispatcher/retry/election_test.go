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
	"context"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
)

func TestElectionAndRedelivery(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_again")
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	stop := startReplica(t, r, "first")

	annotate := func(token string) {
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.RedeliverAnnotation, token))
		g.Expect(r.client.Patch(t.Context(), d, patch)).To(Succeed())
	}
	attempts := func() int32 { return r.read(t, d).Status.AttemptCount }
	annotate("1")
	g.Eventually(attempts).WithTimeout(30 * time.Second).Should(Equal(int32(2)))

	// Another replica takes over. It does not repeat handled requests, and handles those made in between.
	stop()
	annotate("2")
	startReplica(t, r, "second")
	g.Eventually(attempts).WithTimeout(30 * time.Second).Should(Equal(int32(3)))
	g.Consistently(attempts).WithTimeout(2 * time.Second).Should(Equal(int32(3)))
	requests := r.endpoint.got()
	g.Expect(requests).To(HaveLen(3))
	for _, request := range requests {
		g.Expect(request.id).To(Equal("evt_again"))
		g.Expect(request.body).To(Equal(d.Spec.Body))
	}
}

// A process that is suspended or starved for longer than its Lease lasts still believes that it owns the retries,
// although another replica does.
func TestNoAttemptBeyondTheLease(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	d := r.store(t, "evt_lease")
	c.Step(time.Hour)
	reconciler := r.reconciler(t, c)
	// The Lease expires before the response to the read arrives.
	held := true
	reconciler.HoldsLease = func() bool { return held }
	reconciler.Live = readThen{r.client, func() { held = false }}
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	_, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	c.Step(time.Hour)
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(BeEmpty())
	held, reconciler.Live = true, r.client
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1), "it is attempted once the Lease is held again")
}

// readThen calls then before it returns an object that it has read.
type readThen struct {
	client.Reader

	then func()
}

func (r readThen) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	defer r.then()
	return r.Reader.Get(ctx, key, object, options...)
}

// A deleted Lease stays with its holder. A Lease that another holder acquires ends all attempts at once. Two replicas
// never own the retries at the same time.
func TestLeaseIsDeletedOrTaken(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	owner, other := newReplica(t, r, "owner"), newReplica(t, r, "other")
	for _, replica := range []*replica{owner, other} {
		replica.election.LeaseDuration, replica.election.RenewDeadline, replica.election.RetryPeriod = time.Minute, 40*time.Second, 200*time.Millisecond
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: r.postback.Namespace, Name: v1alpha1.RetriesLeaseName}}
	holder := func() string {
		if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(lease), lease); err != nil {
			return err.Error()
		}
		return ptr.Deref(lease.Spec.HolderIdentity, "")
	}
	owner.start(t)
	g.Eventually(owner.election.HoldsLease).WithTimeout(30 * time.Second).Should(BeTrue())
	other.start(t)
	g.Eventually(other.looked.Load).WithTimeout(30 * time.Second).Should(BeNumerically(">", 1))

	// Both replicas notice the deletion at about the same time, so the test repeats it.
	for range 8 {
		g.Expect(r.client.Delete(t.Context(), lease)).To(Succeed())
		g.Eventually(holder).WithTimeout(time.Minute).Should(Equal("owner"))
		g.Expect(owner.election.HoldsLease() && !other.election.Elected()).To(BeTrue())
	}

	g.Eventually(func() error {
		holder()
		lease.Spec.HolderIdentity = ptr.To("usurper")
		return r.client.Update(t.Context(), lease)
	}).WithTimeout(time.Minute).Should(Succeed())
	g.Eventually(owner.election.HoldsLease).WithTimeout(time.Minute).Should(BeFalse())
	g.Expect(owner.election.Elected()).To(BeTrue(), "client-go has not noticed yet, or the test shows nothing")
}
