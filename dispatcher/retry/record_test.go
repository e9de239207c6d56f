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
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// The API server accepts the record of every response. Otherwise the attempt would be repeated endlessly.
func TestEveryAnswerCanBeRecorded(t *testing.T) {
	answers := map[string]string{
		"long garbage":        strings.Repeat("X", 3000) + "\r\n\r\n",
		"binary garbage":      strings.Repeat("\x00\xff\x1b[31m", 500),
		"status 000":          "HTTP/1.1 000 none\r\n\r\n",
		"status 042":          "HTTP/1.1 042 odd\r\n\r\n",
		"status 099":          "HTTP/1.1 099 odd\r\n\r\n",
		"status 999":          "HTTP/1.1 999 odd\r\nContent-Length: 0\r\n\r\n",
		"switching protocols": "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"long reason":         "HTTP/1.1 500 " + strings.Repeat("r", 3000) + "\r\nContent-Length: 0\r\n\r\n",
		"long location":       "HTTP/1.1 302 Found\r\nLocation: https://" + strings.Repeat("l", 3000) + ".example.com/\r\nContent-Length: 0\r\n\r\n",
		"wide characters":     "HTTP/1.1 400 Bad\r\n\r\n" + strings.Repeat("日本語🎉", 300),
		"replaced bytes":      "HTTP/1.1 400 Bad\r\n\r\n" + strings.Repeat("\xff\x00", 900),
		"nothing":             "",
	}
	r := newRig(t, clock.RealClock{})
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r.setRoute(func(target *route.Route) { target.URL = "http://" + receiver.Raw(t, receiver.Answering(answer)) })
			d := r.store(t, fmt.Sprintf("evt_%d", time.Now().UnixNano()))
			recorded, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{TakenOver: true}, func(*v1alpha1.Attempt) {})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(recorded.Status.AttemptCount).To(Equal(int32(1)))
			g.Expect(recorded.Status.Attempts[0].Message).NotTo(ContainSubstring("refused the texts"), "the texts fit")
		})
	}
}

// withStatusUpdates returns the rig's attempter with a client whose status updates call f.
func (r *rig) withStatusUpdates(f func(context.Context, client.Object, func() error) error) *attempt.Attempter {
	wrapped := interceptor.NewClient(r.client, interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, _ string, object client.Object, options ...client.SubResourceUpdateOption) error {
			return f(ctx, object, func() error { return c.Status().Update(ctx, object, options...) })
		},
	})
	return &attempt.Attempter{Sender: r.attempter.Sender, Recorder: &delivery.Recorder{Client: wrapped}, Events: r.attempter.Events}
}

// A write whose response is lost is repeated, but the attempt is recorded once.
func TestLostAnswerRecordsOnce(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	r.endpoint.status.Store(http.StatusServiceUnavailable)
	r.setRoute(func(target *route.Route) { target.MaxAttempts = 2 })
	d := r.store(t, "evt_lost_answer")
	lost := false
	attempter := r.withStatusUpdates(func(_ context.Context, _ client.Object, update func() error) error {
		err := update()
		if !lost && err == nil {
			lost = true
			return errors.New("connection reset by peer")
		}
		return err
	})
	recorded, err := attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(lost).To(BeTrue())
	g.Expect(recorded.Status.AttemptCount).To(Equal(int32(1)))
	g.Expect(recorded.Status.Phase).To(Equal(v1alpha1.DeliveryRetrying), "one of two attempts is used")
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

// A record writes only the status. Other fields stay, and the response contains them.
func TestRecordIsOfTheStatusAlone(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_status_alone")
	before := r.read(t, d)
	attempter := r.withStatusUpdates(func(_ context.Context, object client.Object, update func() error) error {
		sent := object.(*v1alpha1.PostbackDelivery)
		g.Expect(sent.Spec).To(BeZero())
		g.Expect(sent.Labels).To(BeEmpty())
		g.Expect(sent.ManagedFields).To(BeEmpty())
		return update()
	})
	recorded, err := attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	after := r.read(t, d)
	g.Expect(after.Spec).To(Equal(before.Spec))
	g.Expect(after.Labels).To(Equal(before.Labels))
	g.Expect(after.OwnerReferences).To(Equal(before.OwnerReferences))
	g.Expect(after.Generation).To(Equal(before.Generation))
	g.Expect(after.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(recorded).To(Equal(after))
}

// If the API server refuses the texts of an attempt for an unforeseen reason, the attempt is recorded without them.
func TestRefusedTextsAreLeftOut(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_refused")
	attempter := r.withStatusUpdates(func(_ context.Context, object client.Object, update func() error) error {
		if newest := object.(*v1alpha1.PostbackDelivery).Status.Attempts[0]; newest.RemoteIP != "" {
			object.(*v1alpha1.PostbackDelivery).Status.Attempts[0].RemoteIP = strings.Repeat("1", 100)
		}
		return update()
	})
	recorded, err := attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(recorded.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(recorded.Status.Attempts[0].Message).To(ContainSubstring("refused the texts"))
}

// If a policy denies the record of an attempt, its message is in an Event on the Postback. The attempt does not wait
// for a change of the policy, because it occupies a slot.
func TestPolicyDeniesTheRecord(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	recorder := events.NewFakeRecorder(10)
	attempter := r.withStatusUpdates(func(context.Context, client.Object, func() error) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
			Message: `admission webhook "w" denied the request: nobody writes a status here`,
		}}
	})
	attempter.Events = recorder
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := attempter.Attempt(ctx, r.store(t, "evt_denied"), r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).To(MatchError(delivery.ErrUnrecordable))
	g.Expect(recorder.Events).To(Receive(And(ContainSubstring("Warning AttemptNotRecorded"), ContainSubstring("PolicyDenied"),
		ContainSubstring("nobody writes a status here"))))
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

// A second request right after the record of the first redelivery is not lost.
func TestRequestsDuringARedeliveryAreKept(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	d := r.store(t, "evt_requests")
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	reconciler := r.reconciler(t, c)
	reconciler.Unfinished = lookup(nothing)
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	annotate := func(token string) {
		fresh := r.read(t, d)
		fresh.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: token}
		g.Expect(r.client.Update(t.Context(), fresh)).To(Succeed())
		reconciler.ReconcileFinished(request.NamespacedName)
	}
	annotate("1")
	reconciler.Attempter = attemptThen{r.attempter, func() { annotate("2") }}
	c.Step(time.Second)
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	reconciler.Attempter = r.attempter
	c.Step(time.Second)
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(3))

	// A handled request causes no further attempt.
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(3))
}

// attemptThen calls a function right after an attempt is recorded.
type attemptThen struct {
	*attempt.Attempter
	then func()
}

func (a attemptThen) Attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route, cause attempt.Cause, sent func(*v1alpha1.Attempt)) (*v1alpha1.PostbackDelivery, error) {
	recorded, err := a.Attempter.Attempt(ctx, d, r, cause, sent)
	a.then()
	return recorded, err
}
