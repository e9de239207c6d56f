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
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// of returns an attempt with a generation, outcome and status code.
func of(generation int64, outcome v1alpha1.Outcome, code int32) *v1alpha1.Attempt {
	a := &v1alpha1.Attempt{Outcome: outcome, PostbackGeneration: generation}
	if code != 0 {
		a.StatusCode = ptr.To(code)
	}
	return a
}

// throttled returns an attempt whose response had a Retry-After.
func throttled(generation int64, pause time.Duration) *v1alpha1.Attempt {
	a := of(generation, v1alpha1.OutcomeFailed5xx, http.StatusServiceUnavailable)
	a.RetryAfterTime = ptr.To(metav1.NewMicroTime(time.Now().Add(pause)))
	return a
}

// changed returns the route of a generation whose endpoint began at another generation.
func changed(uid string, generation, endpoint int64) *route.Route {
	r := target(uid)
	r.Generation, r.EndpointGeneration = generation, endpoint
	r.URL = fmt.Sprintf("https://%s-%d.example.com/", uid, endpoint)
	return r
}

// A recorded attempt at an earlier URL does not affect the present endpoint, however late it is read.
func TestRecordsOfAnotherEndpointTeachNothing(t *testing.T) {
	records := map[string]func() *v1alpha1.Attempt{
		"Retry-After": func() *v1alpha1.Attempt { return throttled(1, time.Hour) },
		"410":         func() *v1alpha1.Attempt { return of(1, v1alpha1.OutcomeGone, http.StatusGone) },
		"timeout":     func() *v1alpha1.Attempt { return of(1, v1alpha1.OutcomeTimeout, 0) },
	}
	for name, record := range records {
		t.Run(name+" observed", func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				e := &endpoint{attempt: succeeded}
				l.Submit(changed("crm", 1, 1), e.work("e1", time.Now()))
				synctest.Wait()
				now := changed("crm", 2, 2)
				l.SetRoute(now)
				l.Observe(now, record()) // A change of a label made the replica read e1 again.
				l.Submit(now, e.work("e3", time.Now()))
				synctest.Wait()
				want(t, "attempts", len(e.got()), 2)
				want(t, "throttled", l.Throttled("crm"), false)
			})
		})
		t.Run(name+" found at start", func(t *testing.T) {
			unfinished := func(*route.Route) []*v1alpha1.PostbackDelivery {
				return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{*record()}}}}
			}
			inBubble(t, Options{Unfinished: unfinished}, func(t *testing.T, l *Lanes) {
				e := &endpoint{takes: time.Second}
				l.Submit(changed("crm", 3, 2), e.work("1", time.Now()))
				l.Submit(changed("crm", 3, 2), e.work("2", time.Now()))
				synctest.Wait()
				want(t, "attempts", len(e.got()), 2)
			})
		})
	}
}

// An endpoint keeps its Retry-After as long as the URL stays, whatever else changes.
func TestPauseOutlivesOtherChanges(t *testing.T) {
	for name, learn := range map[string]func(l *Lanes){
		"before the change":        func(l *Lanes) { l.Observe(changed("crm", 1, 1), throttled(1, time.Hour)) },
		"from a record after it":   func(l *Lanes) { l.Observe(changed("crm", 2, 1), throttled(1, time.Hour)) },
		"before the route is here": func(l *Lanes) { l.Observe(changed("crm", 1, 1), throttled(2, time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				learn(l)
				e := &endpoint{}
				l.SetRoute(changed("crm", 2, 1))
				l.Submit(changed("crm", 2, 1), e.work("1", time.Now()))
				time.Sleep(59 * time.Minute) //nolint:forbidigo // The bubble's clock.
				want(t, "before the end", len(e.got()), 0)
				time.Sleep(2 * time.Minute) //nolint:forbidigo // The bubble's clock.
				want(t, "after the end", len(e.got()), 1)
			})
		})
	}
	t.Run("by the new endpoint, before its route is here", func(t *testing.T) {
		inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
			l.Observe(changed("crm", 1, 1), throttled(2, time.Hour))
			e := &endpoint{}
			l.SetRoute(changed("crm", 2, 2))
			l.Submit(changed("crm", 2, 2), e.work("1", time.Now()))
			synctest.Wait()
			want(t, "attempts", len(e.got()), 0)
		})
	})
}

// An attempt that ends after its endpoint was replaced does not count for the new endpoint.
func TestAttemptInFlightOfAnotherEndpoint(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		old := &endpoint{takes: time.Minute, attempt: func() *v1alpha1.Attempt { return throttled(1, time.Hour) }}
		for i := range tripAfter {
			l.Submit(changed("crm", 1, 1), old.work(fmt.Sprint(i), time.Now()))
		}
		synctest.Wait()
		l.SetRoute(changed("crm", 2, 2))
		time.Sleep(2 * time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "throttled", l.Throttled("crm"), false)
		now := &endpoint{}
		l.Submit(changed("crm", 2, 2), now.work("new", time.Now()))
		synctest.Wait()
		want(t, "attempts", len(now.got()), 1)
		l.mu.Lock()
		defer l.mu.Unlock()
		want(t, "duration", l.lanes["crm"].peer.took, 0)
		want(t, "failures", l.lanes["crm"].peer.streak.failures, 0)
	})
}

// A probe belongs to its endpoint: the next endpoint gets its own.
func TestProbeInFlightOfAnotherEndpoint(t *testing.T) {
	unfinished := func(*route.Route) []*v1alpha1.PostbackDelivery {
		return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{*timedOut()}}}}
	}
	inBubble(t, Options{Unfinished: unfinished}, func(t *testing.T, l *Lanes) {
		old := &endpoint{takes: time.Minute, attempt: timedOut}
		l.Submit(changed("crm", 1, 1), old.work("probe", time.Now()))
		synctest.Wait()
		l.SetRoute(changed("crm", 2, 2))
		now := &endpoint{takes: time.Second, attempt: func() *v1alpha1.Attempt { return of(2, v1alpha1.OutcomeSucceeded, 200) }}
		for i := range 10 {
			l.Submit(changed("crm", 2, 2), now.work(fmt.Sprint(i), time.Now()))
		}
		synctest.Wait()
		want(t, "probes of the new endpoint", len(now.got()), 1)
		time.Sleep(30 * time.Second) //nolint:forbidigo // The bubble's clock.
		want(t, "attempts while the old probe hangs", len(now.got()), 10)
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "throttled after the old probe failed", l.Throttled("crm"), false)
	})
}

// A replaced certificate in a Secret leads to an attempt at once, although the spec has not changed.
func TestNewCredentialsAreTriedAtOnce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		e := &endpoint{attempt: timedOut}
		for i := range tripAfter + 1 {
			l.Submit(target("crm"), e.work(fmt.Sprint(i), time.Now()))
		}
		synctest.Wait()
		before := len(e.got())
		l.Submit(target("crm"), e.work("late", time.Now()))
		r := target("crm")
		r.TLS = &route.TLS{CA: "another"}
		l.SetRoute(r)
		synctest.Wait()
		want(t, "probes", len(e.got()), before+1)
	})
}
