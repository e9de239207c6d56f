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

package jetstream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func TestDecide(t *testing.T) {
	enabled := &route.Route{State: v1alpha1.PostbackEnabled}
	tests := map[string]struct {
		route    *route.Route
		pressure lane.Pressure
		want     verdict
	}{
		"idle":                {route: enabled, want: attemptNow},
		"no route":            {want: moveToWaiting},
		"paused":              {route: &route.Route{State: v1alpha1.PostbackPaused}, want: moveToWaiting},
		"disabled":            {route: &route.Route{State: v1alpha1.PostbackDisabled}, want: moveToWaiting},
		"exact concurrency":   {route: &route.Route{State: v1alpha1.PostbackEnabled, MaxConcurrent: 1}, want: moveToWaiting},
		"exact rate":          {route: &route.Route{State: v1alpha1.PostbackEnabled, PerSecond: 1}, want: moveToWaiting},
		"throttled":           {route: enabled, pressure: lane.Pressure{Throttled: true}, want: moveToWaiting},
		"busy":                {route: enabled, pressure: lane.Pressure{Waiting: lanePlaces - 1, Wait: slowLane, SinceBegin: stillLane}, want: attemptNow},
		"full, and moving":    {route: enabled, pressure: lane.Pressure{Waiting: lanePlaces, Wait: slowLane, SinceBegin: pausedLane}, want: waitForPlace},
		"full, and paused":    {route: enabled, pressure: lane.Pressure{Waiting: lanePlaces, Wait: slowLane, SinceBegin: stillLane}, want: waitBeside},
		"hardly moving":       {route: enabled, pressure: lane.Pressure{Waiting: 1, Wait: slowLane + time.Millisecond}, want: moveToWaiting},
		"still":               {route: enabled, pressure: lane.Pressure{Waiting: manyWaiting, Wait: stillLane + 1, SinceBegin: stillLane + 1}, want: moveToWaiting},
		"still, and few wait": {route: enabled, pressure: lane.Pressure{Waiting: manyWaiting - 1, Wait: slowLane, SinceBegin: slowLane}, want: attemptNow},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := decide(test.route, func(*route.Route) lane.Pressure { return test.pressure }); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

// Later messages pass a message that waits for a slot in a paused lane. The passed message keeps waiting, and goes
// back to the stream when the replica ends.
func TestPausedLaneHoldsUpNobody(t *testing.T) {
	g := NewWithT(t)
	now := clocktesting.NewFakeClock(time.Now())
	crm := &route.Route{Namespace: "shop", Name: "crm", UID: "1", State: v1alpha1.PostbackEnabled}
	ended, end := context.WithCancel(t.Context())
	lanes := lane.New(ended, lane.Options{Clock: now})
	t.Cleanup(lanes.Close)
	t.Cleanup(end)
	for i := 0; lanes.Pressure(crm).Waiting < lanePlaces; i++ {
		lanes.Submit(crm, &lane.Work{
			Key: types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("crm-%d", i)}, Due: now.Now(),
			Do:      func(context.Context, func(*v1alpha1.Attempt)) { <-ended.Done() },
			Dropped: func() {},
		})
	}
	now.Step(pausedLane + time.Millisecond)

	c := NewConsumer(ConsumerOptions{Routes: only{crm}, Lanes: lanes, Clock: now, Stop: ended, Log: logr.Discard()})
	message := &returned{back: make(chan struct{})}
	u := &unsettled{msg: message, d: &v1alpha1.PostbackDelivery{}}
	g.Expect(c.unsettled.add(ended, u)).To(BeTrue())
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		c.place(ended, u, false)
	}()
	g.Eventually(passed).WithTimeout(patience).Should(BeClosed()) // The fake clock stands still, and with it the lane.
	g.Expect(c.unsettled.all()).To(ConsistOf(u))
	g.Expect(message.back).NotTo(BeClosed())
	end()
	g.Eventually(message.back).WithTimeout(patience).Should(BeClosed())
}

// only has a single route.
type only struct{ *route.Route }

func (o only) Get(types.UID) *route.Route { return o.Route }

func (o only) Of(string, v1alpha1.PostbackReference) *route.Route { return o.Route }

// returned is a message that records when it is given back.
type returned struct {
	jetstream.Msg

	back chan struct{}
}

func (m *returned) Nak() error {
	close(m.back)
	return nil
}

func TestHold(t *testing.T) {
	const some = 7 * time.Millisecond
	tests := map[string]struct {
		pressure lane.Pressure
		outrun   bool
		want     time.Duration
	}{
		"idle":               {},
		"few wait":           {pressure: lane.Pressure{Waiting: fewWaiting - 1, Wait: some}},
		"more wait":          {pressure: lane.Pressure{Waiting: fewWaiting, Wait: some}, want: some},
		"for long":           {pressure: lane.Pressure{Waiting: fewWaiting, Wait: slowLane}, want: longestHold},
		"outrun":             {outrun: true, want: longestHold},
		"throttled":          {pressure: lane.Pressure{Waiting: fewWaiting, Wait: some, Throttled: true}, outrun: true},
		"slow, so set aside": {pressure: lane.Pressure{Waiting: fewWaiting, Wait: slowLane + 1}, outrun: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := hold(test.pressure, test.outrun); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestOutrun(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	p := &Pending{}
	if p.outrun(now) {
		t.Error("nothing was given, and that is outrun")
	}
	p.given(pullMessages, now)
	if p.outrun(now) {
		t.Error("all of it is on its way to a replica, and that is outrun")
	}
	p.given(pullMessages+1, now)
	if !p.outrun(now) {
		t.Error("more than that is not outrun")
	}
	if p.outrun(now.Add(pollInterval)) {
		t.Error("it is outrun for ever after")
	}
}
