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
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func TestFirstAttemptThatWasNeverRecordedIsTakenOver(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	d := r.store(t, "evt_takeover")
	reconciler := r.reconciler(t, c)
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	result, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result.RequeueAfter).To(Equal(attempt.FirstAttemptWindow+10*time.Second), "window, timeout of 5s, grace of 5s")
	g.Expect(r.endpoint.got()).To(BeEmpty(), "the replica that stored it has its time first")
	c.Step(result.RequeueAfter)
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
	log := r.read(t, d).Status
	g.Expect(log.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(log.Attempts[0].Message).To(ContainSubstring("may have received the event before"), "the log says what it cannot know")
}

func TestFirstAttempts(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	lanes := lane.New(t.Context(), lane.Options{Clock: c})
	first := &attempt.First{Attempter: r.attempter, Routes: r.routes, Lanes: lanes, Clock: c}
	for i := range 50 {
		begin := first.Admit(r.route())
		g.Expect(begin).NotTo(BeNil())
		begin(r.store(t, fmt.Sprintf("evt_first%d", i)))
	}
	late := r.store(t, "evt_late")
	lanes.Close()
	g.Expect(first.Admit(r.route())).To(BeNil())
	lanes.Run()
	g.Expect(r.endpoint.got()).To(HaveLen(50), "what was offered before Close is attempted, once")
	g.Expect(r.read(t, late).Status.Phase).To(Equal(v1alpha1.DeliveryPending), "the rest is the elected replica's")
}

func TestFirstAttemptsLeaveWhatIsNotTheirs(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	lanes := lane.New(t.Context(), lane.Options{Clock: c})
	first := &attempt.First{Attempter: r.attempter, Routes: r.routes, Lanes: lanes, Clock: c}
	old, paused := first.Admit(r.route()), first.Admit(r.route())
	c.Step(attempt.FirstAttemptWindow + time.Second)
	old(r.store(t, "evt_old"))
	for name, change := range map[string]func(*route.Route){
		"paused":        func(r *route.Route) { r.State = v1alpha1.PostbackPaused },
		"perSecond":     func(r *route.Route) { r.PerSecond = 1 },
		"maxConcurrent": func(r *route.Route) { r.MaxConcurrent = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r.setRoute(change)
			g.Expect(first.Admit(r.route())).To(BeNil())
		})
	}
	r.setRoute(func(r *route.Route) { r.State = v1alpha1.PostbackPaused })
	paused(r.store(t, "evt_paused"))
	lanes.Close()
	lanes.Run()
	g.Expect(r.endpoint.got()).To(BeEmpty())
}
