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

package lane

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// The circuit opens and lets one probe at a time through. After the recovery, attempts go at a rising rate, oldest
// first.
func TestCircuitOpensProbesAndRecoversSlowly(t *testing.T) {
	var reasons []string
	report := func(_ *route.Route, h Health) {
		if h.News {
			reasons = append(reasons, h.Reason)
		}
	}
	inBubble(t, Options{Report: report}, func(t *testing.T, l *Lanes) {
		start := time.Now()
		e := &endpoint{takes: 10 * time.Second, attempt: timedOut}
		const count = 5000
		for i := count - 1; i >= 0; i-- {
			l.Submit(target("crm"), e.work(fmt.Sprintf("%05d", i), start.Add(time.Duration(i)*time.Millisecond)))
		}
		time.Sleep(10*time.Minute - time.Second) //nolint:forbidigo // The bubble's clock.
		failed := len(e.got())
		if failed > defaultMaxConcurrent+12 {
			t.Errorf("%d attempts in ten minutes at an endpoint that hangs", failed)
		}
		want(t, "throttled by the circuit", l.Throttled(target("crm").UID), true)
		e.mu.Lock()
		e.takes, e.attempt = 20*time.Millisecond, nil
		e.mu.Unlock()
		time.Sleep(20 * time.Minute) //nolint:forbidigo // The bubble's clock.
		all := e.got()[failed:]
		want(t, "the rest goes", len(all), count-failed)
		want(t, "throttled after that", l.Throttled(target("crm").UID), false)
		if !slices.IsSortedFunc(all, func(a, b begun) int { return a.at.Compare(b.at) }) {
			t.Error("the log of the test is out of order")
		}
		first := all[0].at
		var perSecond [4]int
		for _, b := range all[1:] {
			if second := int(b.at.Sub(first) / time.Second); second < len(perSecond) {
				perSecond[second]++
			}
		}
		t.Logf("in the first seconds after the probe: %v", perSecond)
		for i := 1; i < len(perSecond); i++ {
			if perSecond[i] <= perSecond[i-1] {
				t.Errorf("the rate does not rise: %v", perSecond)
			}
		}
		if perSecond[0] > 2*rampStart {
			t.Errorf("%d go in the first second", perSecond[0])
		}
		if !slices.IsSortedFunc(all[:50], func(a, b begun) int { return cmpName(a, b) }) {
			t.Errorf("not oldest first: %v", all[:50])
		}
		want(t, "reasons", fmt.Sprint(reasons), fmt.Sprint([]string{string(v1alpha1.OutcomeTimeout), v1alpha1.EndpointRespondingReason}))
	})
}

func cmpName(a, b begun) int {
	if a.name < b.name {
		return -1
	}
	return 1
}

// Retry-After delays all deliveries to the endpoint, not only one (svix#2200).
func TestRetryAfterHoldsTheEndpoint(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		until := time.Now().Add(time.Hour)
		e := &endpoint{attempt: func() *v1alpha1.Attempt {
			return &v1alpha1.Attempt{
				Outcome: v1alpha1.OutcomeRejected4xx, StatusCode: ptr.To[int32](http.StatusTooManyRequests),
				RetryAfterTime: ptr.To(metav1.NewMicroTime(until)), PostbackGeneration: 1,
			}
		}}
		l.Submit(target("crm"), e.work("first", time.Now()))
		synctest.Wait()
		e.set(nil)
		l.Submit(target("crm"), e.work("second", time.Now()))
		manual := e.work("manual", time.Now())
		manual.Manual = true
		l.Submit(target("crm"), manual)
		if l.Admit(target("crm")) != nil {
			t.Error("a first attempt is promised")
		}
		time.Sleep(59 * time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "before the time", len(e.got()), 1)
		want(t, "throttled before the time", l.Throttled(target("crm").UID), true)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "after the time", len(e.got()), 3)
		want(t, "throttled after the time", l.Throttled(target("crm").UID), false)
		if at := e.got()[1].at; at.Before(until) {
			t.Errorf("the next began at %s, before %s", at, until)
		}
	})
}

// A 410 stops attempts until the spec changes or a user requests one (discourse PR#7392, websub#106).
func TestGoneSetsTheEndpointAside(t *testing.T) {
	gone := func() *v1alpha1.Attempt {
		return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeGone, PostbackGeneration: 1}
	}
	for name, release := range map[string]func(l *Lanes, e *endpoint){
		"spec": func(l *Lanes, _ *endpoint) {
			changed := target("crm")
			changed.Generation = 2
			l.SetRoute(changed)
		},
		"manual": func(l *Lanes, e *endpoint) {
			w := e.work("manual", time.Now())
			w.Manual = true
			l.Submit(target("crm"), w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				e := &endpoint{attempt: gone}
				l.Submit(target("crm"), e.work("first", time.Now()))
				synctest.Wait()
				e.set(nil)
				l.Submit(target("crm"), e.work("second", time.Now()))
				time.Sleep(100 * time.Hour) //nolint:forbidigo // The bubble's clock.
				want(t, "while it is gone", len(e.got()), 1)
				want(t, "throttled while it is gone", l.Throttled(target("crm").UID), true)
				want(t, "another one throttled", l.Throttled(target("shop").UID), false)
				release(l, e)
				time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
				if got := e.got(); len(got) < 2 || !slices.ContainsFunc(got, func(b begun) bool { return b.name == "second" }) {
					t.Errorf("what waited does not go: %v", got)
				}
			})
		})
	}
}

// A newly elected replica corrects the health that its predecessor reported.
func TestHealthThatAnotherReplicaReportedIsCleared(t *testing.T) {
	var reasons []string
	report := func(_ *route.Route, h Health) { reasons = append(reasons, h.Reason) }
	unfinished := func(r *route.Route) []*v1alpha1.PostbackDelivery {
		if r.UID == "shop" {
			return nil
		}
		return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{*timedOut()}}}}
	}
	inBubble(t, Options{Unfinished: unfinished, Report: report}, func(t *testing.T, l *Lanes) {
		l.Submit(target("crm"), (&endpoint{}).work("1", time.Now()))
		l.Submit(target("shop"), (&endpoint{}).work("1", time.Now()))
		synctest.Wait()
		want(t, "reasons", fmt.Sprint(reasons), fmt.Sprint([]string{v1alpha1.EndpointRespondingReason}))
	})
}

// Attempts recorded by other replicas count, before and after the lane exists.
func TestWhatOtherReplicasSawCounts(t *testing.T) {
	gone := v1alpha1.Attempt{Outcome: v1alpha1.OutcomeGone, PostbackGeneration: 1}
	unfinished := func(*route.Route) []*v1alpha1.PostbackDelivery {
		return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{gone}}}}
	}
	inBubble(t, Options{Unfinished: unfinished}, func(t *testing.T, l *Lanes) {
		e := &endpoint{}
		l.Submit(target("crm"), e.work("1", time.Now()))
		time.Sleep(time.Hour) //nolint:forbidigo // The bubble's clock.
		want(t, "to an endpoint that is gone", len(e.got()), 0)
	})
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		e := &endpoint{}
		l.Submit(target("crm"), e.work("1", time.Now()))
		synctest.Wait()
		l.Observe(target("crm"), &gone)
		l.Submit(target("crm"), e.work("2", time.Now()))
		time.Sleep(time.Hour) //nolint:forbidigo // The bubble's clock.
		want(t, "after another replica saw 410", len(e.got()), 1)
	})
}

// An endpoint that rejects some events still gets the others.
func TestRejectionsDoNotOpenTheCircuit(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		e := &endpoint{attempt: func() *v1alpha1.Attempt {
			return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeRejected4xx, StatusCode: ptr.To[int32](http.StatusBadRequest), PostbackGeneration: 1}
		}}
		for i := range 100 {
			l.Submit(target("crm"), e.work(fmt.Sprint(i), time.Now()))
		}
		synctest.Wait()
		want(t, "attempts", len(e.got()), 100)
	})
}
