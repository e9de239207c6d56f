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

package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// world simulates everything except the lanes: endpoints, the API server, producers, and a retry controller that
// knows only the schedule. The lanes are the dispatcher's own. It runs in a synctest bubble. Random numbers are
// derived from names, so that each run is the same.
type world struct {
	scenario
	start time.Time
	api   apiServer
	// stop ends the simulation.
	stop context.Context

	mu        sync.Mutex
	endpoints map[types.UID]*endpoint
	lanes     []*lane.Lanes
	ended     sync.WaitGroup
	// unfinished has the stored and undelivered events of failing endpoints.
	unfinished map[*event]struct{}
	// left counts the events that are still to come or undelivered.
	left     int
	finished chan struct{}
	measured measured
}

// endpoint is the endpoint of one Postback.
type endpoint struct {
	route            *route.Route
	failing, hanging bool
	next             *rand.Rand
	events           int
	// retrying counts its unfinished deliveries with a failed attempt.
	retrying int
}

// event is an event and its delivery.
type event struct {
	to       *endpoint
	number   int
	attempts int32
	stored   time.Time
	// due is when the next attempt may begin.
	due time.Time
	// running is true while an attempt is in flight, done once one has succeeded.
	running, done bool
}

// run simulates a scenario until everything is delivered.
func run(t *testing.T, s scenario) *measured {
	t.Helper()
	var result *measured
	synctest.Test(t, func(t *testing.T) {
		stop, cancel := context.WithCancel(t.Context())
		w := &world{scenario: s, start: time.Now(), stop: stop, endpoints: map[types.UID]*endpoint{}, unfinished: map[*event]struct{}{}, finished: make(chan struct{})}
		w.measured.init(s)
		w.startReplicas()
		w.produce()
		if s.restart > 0 {
			time.AfterFunc(before+s.restart+3, w.restartReplicas) // Avoid the instant of a sample.
		}
		w.watch()
		cancel()
		w.ended.Wait()
		result = &w.measured
	})
	return result
}

// startReplicas replaces the lanes of all replicas by new ones.
func (w *world) startReplicas() {
	w.lanes = nil
	for range replicas {
		options := lane.Options{MaxInFlight: w.maxInFlight, Recovery: w.recovery, Clock: clock.RealClock{}}
		if !w.forgetful {
			options.Unfinished = w.onRecord
		}
		l := lane.New(w.stop, options)
		w.lanes = append(w.lanes, l)
		w.ended.Go(l.Run)
	}
}

// onRecord returns an unfinished delivery with a failed attempt if the endpoint has any. Lanes read nothing else.
func (w *world) onRecord(r *route.Route) []*v1alpha1.PostbackDelivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.endpoints[r.UID]
	if e.retrying == 0 {
		return nil
	}
	return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{*w.failure(e)}}}}
}

// restartReplicas replaces all replicas; the elected one then retries the due deliveries.
func (w *world) restartReplicas() {
	for _, l := range w.lanes {
		l.Close()
	}
	w.mu.Lock()
	w.startReplicas()
	var due []*event
	for e := range w.unfinished {
		if !e.due.After(time.Now()) {
			due = append(due, e)
		}
	}
	w.mu.Unlock()
	sortEvents(due)
	for _, e := range due {
		w.retry(e)
	}
}

// elected returns the lanes of the elected replica.
func (w *world) elected() *lane.Lanes { return w.replica(0) }

func (w *world) replica(i int) *lane.Lanes {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lanes[i%replicas]
}

// produce begins the events of all endpoints.
func (w *world) produce() {
	for i := range w.failing + w.healthy {
		name := fmt.Sprintf("endpoint-%05d", i)
		e := &endpoint{
			failing: i < w.failing,
			hanging: float64(i) < w.hanging*float64(w.failing),
			next:    rand.New(rand.NewPCG(uint64(i), 1)),
			route:   &route.Route{Namespace: "tenant", Name: name, UID: types.UID(name), Generation: 1, State: v1alpha1.PostbackEnabled},
		}
		w.endpoints[e.route.UID] = e
		w.expect(e)
	}
}

// expect schedules the next event of an endpoint after a random time, until the end of the scenario.
func (w *world) expect(e *endpoint) {
	mean, until := w.healthyEvery, before+w.outage+after
	if e.failing {
		mean, until = w.every, before+w.outage
	}
	wait := time.Duration(e.next.ExpFloat64() * float64(mean))
	if time.Since(w.start)+wait > until {
		return
	}
	w.mu.Lock()
	w.left++
	number := e.events
	e.events++
	w.mu.Unlock()
	time.AfterFunc(wait, func() {
		w.expect(e)
		w.ingest(e, number)
	})
}

// ingest stores an event, and attempts it as the dispatcher does.
func (w *world) ingest(to *endpoint, number int) {
	e := &event{to: to, number: number, stored: time.Now(), due: time.Now()}
	if w.stop.Err() != nil {
		return
	}
	begin := w.replica(e.number).Admit(to.route)
	w.api.write(&w.measured)
	w.mu.Lock()
	w.unfinished[e] = struct{}{}
	w.mu.Unlock()
	if begin == nil {
		w.retry(e)
		return
	}
	// If no first attempt is made, the elected replica takes over.
	time.AfterFunc(takeover, func() { w.retry(e) })
	begin(w.work(e, true))
}

// retry submits a due delivery to the elected replica.
func (w *world) retry(e *event) {
	w.mu.Lock()
	idle := w.stop.Err() != nil || e.done || e.running || time.Now().Before(e.due)
	w.mu.Unlock()
	if !idle {
		w.elected().Submit(e.to.route, w.work(e, false))
	}
}

// work returns an attempt by the present lanes. It does nothing if its replica has ended.
func (w *world) work(e *event, first bool) *lane.Work {
	by := w.elected()
	return &lane.Work{
		Key: types.NamespacedName{Namespace: "tenant", Name: fmt.Sprintf("%s-%07d", e.to.route.Name, e.number)},
		Due: e.due,
		Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) {
			late := first && time.Since(e.stored) > attempt.FirstAttemptWindow
			if !late && by == w.elected() && w.begin(e) {
				w.attempt(ctx, e, sent)
			}
		},
	}
}

// begin reports whether a delivery is still due, and marks it as running.
func (w *world) begin(e *event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.done || e.running || time.Now().Before(e.due) {
		return false
	}
	e.running = true
	e.attempts++
	return true
}

// attempt makes an attempt and records it.
func (w *world) attempt(ctx context.Context, e *event, sent func(*v1alpha1.Attempt)) {
	w.measured.begun(e)
	chance := rand.New(rand.NewPCG(uint64(e.number), hash(e.to.route.Name)+uint64(e.attempts)))
	away := e.to.failing && w.away(time.Now())
	takes := answerTime
	switch {
	case away && e.to.hanging:
		takes = timeout
	case away:
		takes = refuseTime
	}
	sleep(ctx, time.Duration((0.8+0.4*chance.Float64())*float64(takes)))
	end := time.Now()
	if !away {
		sent(&v1alpha1.Attempt{Outcome: v1alpha1.OutcomeSucceeded, PostbackGeneration: 1})
	} else {
		sent(w.failure(e.to))
	}
	w.api.write(&w.measured)
	w.measured.recorded(e, !away)
	if !away {
		w.succeed(e)
		return
	}
	wait := time.Duration((1 + w.jitter*(2*chance.Float64()-1)) * float64(delivery.Delay(e.attempts)))
	w.fail(e, end.Add(wait))
}

func (w *world) succeed(e *event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.running, e.done = false, true
	delete(w.unfinished, e)
	if e.attempts > 1 {
		e.to.retrying--
	}
	w.left--
	if w.left == 0 {
		close(w.finished)
	}
}

func (w *world) fail(e *event, due time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.running, e.due = false, due
	if e.attempts == 1 {
		e.to.retrying++
	}
	time.AfterFunc(time.Until(due), func() { w.retry(e) })
}

func (w *world) failure(e *endpoint) *v1alpha1.Attempt {
	switch {
	case w.blind:
		return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeRejected4xx, StatusCode: ptr.To[int32](404), PostbackGeneration: 1}
	case e.hanging:
		return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeTimeout, PostbackGeneration: 1}
	}
	return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeConnectionRefused, PostbackGeneration: 1}
}

// away reports whether failing endpoints are down.
func (w *world) away(now time.Time) bool {
	since := now.Sub(w.start)
	return since >= before && since < before+w.outage
}

// watch samples the simulation until everything is delivered.
func (w *world) watch() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-w.finished:
			return
		case <-ticker.C:
			w.mu.Lock()
			unfinished := len(w.unfinished)
			lanes := w.lanes
			w.mu.Unlock()
			w.measured.sample(time.Since(w.start), unfinished, lanes)
		}
	}
}

// apiServer serves one write after another.
type apiServer struct {
	mu   sync.Mutex
	free time.Time
}

// write returns when a write is done.
func (a *apiServer) write(m *measured) {
	a.mu.Lock()
	now := time.Now()
	if a.free.Before(now) {
		a.free = now
	}
	a.free = a.free.Add(writeTime)
	wait := a.free.Sub(now)
	a.mu.Unlock()
	m.wrote(wait)
	time.Sleep(wait) //nolint:forbidigo // The bubble's clock.
}

// sleep waits on the clock of the bubble.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
