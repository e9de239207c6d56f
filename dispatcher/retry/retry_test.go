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
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// The whole schedule, on a fake clock: the test reconciles exactly when the Reconciler asks for it.
func TestScheduleOfTwentyAttempts(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	r := newRig(t, c)
	r.endpoint.status.Store(http.StatusServiceUnavailable)
	d := r.store(t, "evt_schedule")
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())

	reconciler := r.reconciler(t, c)
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	for len(r.endpoint.got()) < 20 {
		made := len(r.endpoint.got())
		due := r.read(t, d).Status.NextAttemptTime.Time
		for due.Sub(c.Now()) > time.Microsecond {
			result, err := reconciler.Reconcile(t.Context(), request)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.endpoint.got()).To(HaveLen(made), "an attempt was made before its time")
			g.Expect(result.RequeueAfter).To(BeNumerically(">", 0))
			c.Step(min(result.RequeueAfter, due.Sub(c.Now())-time.Microsecond))
		}
		early, err := reconciler.Reconcile(t.Context(), request)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.endpoint.got()).To(HaveLen(made), "an attempt was made a microsecond before its time")
		c.Step(early.RequeueAfter)
		_, err = reconciler.Reconcile(t.Context(), request)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.endpoint.got()).To(HaveLen(made+1), "an attempt was not made at its time")
	}

	published := []time.Duration{
		12 * time.Second, 2*time.Minute + 28*time.Second, 30*time.Minute + 8*time.Second, 6*time.Hour + 7*time.Minute + 6*time.Second,
	}
	requests := r.endpoint.got()
	log := r.read(t, d)
	g.Expect(log.Status.AttemptCount).To(Equal(int32(20)))
	g.Expect(log.Status.Attempts).To(HaveLen(20))
	for i := 1; i < len(requests); i++ {
		want := 24 * time.Hour
		if i <= len(published) {
			want = published[i-1]
		}
		took := log.Status.Attempts[i-1].Duration.Duration
		gap := requests[i].at.Sub(requests[i-1].at)
		g.Expect(gap).To(BeNumerically(">=", want), "before attempt %d", i+1)
		g.Expect(gap).To(BeNumerically("<=", want+took+time.Second), "before attempt %d", i+1)
		g.Expect(requests[i].id).To(Equal("evt_schedule"))
		g.Expect(requests[i].body).To(Equal(d.Spec.Body), "every attempt sends the same bytes")
		g.Expect(log.Status.Attempts[i].Time.Time).To(BeTemporally("==", requests[i].at))
	}

	r.endpoint.status.Store(http.StatusOK)
	c.Step(48 * time.Hour)
	result, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(ctrl.Result{}))
	g.Expect(r.read(t, d).Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
}

func TestStaleCopyMakesNoSecondAttempt(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	stale := r.store(t, "evt_stale")
	stale.Spec.Test = true // A test delivery is due at once.
	_, err := r.attempter.Attempt(t.Context(), r.read(t, stale), r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	reconciler := r.reconciler(t, c)
	reconciler.Unfinished = lookup(func(context.Context, types.NamespacedName) (*v1alpha1.PostbackDelivery, error) { return stale, nil })
	_, err = reconciler.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(stale)})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

func TestRecordSurvivesAConflict(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_conflict")
	r.endpoint.during = func() {
		other := r.read(t, d)
		other.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: "during"}
		g.Expect(r.client.Update(t.Context(), other)).To(Succeed())
		r.endpoint.during = nil
	}
	recorded, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(recorded.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(recorded.Annotations).To(HaveKeyWithValue(v1alpha1.RedeliverAnnotation, "during"), "the other's change stays")
	g.Expect(recorded.Status.LastHandledRedeliver).To(BeEmpty(), "what was asked for during the attempt is still to be done")
}

func TestDeletedDuringAnAttempt(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_deleted")
	r.endpoint.during = func() { g.Expect(r.client.Delete(t.Context(), d)).To(Succeed()) }
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).To(MatchError(delivery.ErrGone))
}

func TestOneAttemptAtATime(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_once")
	target := r.route()
	r.endpoint.during = func() {
		_, err := r.attempter.Attempt(t.Context(), d, target, attempt.Cause{}, func(*v1alpha1.Attempt) {})
		g.Expect(err).To(MatchError(attempt.ErrInFlight))
	}
	_, err := r.attempter.Attempt(t.Context(), d, target, attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

func TestPausedWaitsAndWakes(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	r.setRoute(func(r *route.Route) { r.State = v1alpha1.PostbackPaused })
	d := r.storeDeferred(t, "evt_paused")
	replica := newReplica(t, r, "paused")
	replica.start(t)
	g.Eventually(replica.election.Elected).WithTimeout(30 * time.Second).Should(BeTrue())
	g.Consistently(r.endpoint.got).WithTimeout(2 * time.Second).Should(BeEmpty())
	r.setRoute(func(*route.Route) {})
	replica.election.Reconciler.Wake(r.route())
	// The attempt comes at once, without waiting for another replica and without a note about one.
	g.Eventually(r.endpoint.got).WithTimeout(8 * time.Second).Should(HaveLen(1))
	g.Eventually(func() v1alpha1.DeliveryPhase { return r.read(t, d).Status.Phase }).WithTimeout(30 * time.Second).Should(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(r.read(t, d).Status.Attempts[0].Message).To(BeEmpty())
}
