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
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// reporter collects reports.
type reporter struct {
	mu      sync.Mutex
	healths []Health
}

func (r *reporter) report(_ *route.Route, h Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healths = append(r.healths, h)
}

// all returns the reports once every goroutine of the bubble is blocked.
func (r *reporter) all() []Health {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.healths)
}

func (r *reporter) last(t *testing.T) Health {
	t.Helper()
	all := r.all()
	if len(all) == 0 {
		t.Fatal("nothing is reported")
	}
	return all[len(all)-1]
}

// news returns status and reason of each report with News.
func (r *reporter) news() []string {
	var news []string
	for _, h := range r.all() {
		if h.News {
			news = append(news, string(h.Status)+" "+h.Reason)
		}
	}
	return news
}

// attempts makes attempts one after another.
func attempts(l *Lanes, all ...*v1alpha1.Attempt) {
	for _, a := range all {
		e := &endpoint{attempt: func() *v1alpha1.Attempt { return a }}
		w := e.work("work", time.Now())
		w.Manual = true // It passes an open circuit.
		l.Submit(target("crm"), w)
		synctest.Wait()
	}
}

func repeat(n int, a *v1alpha1.Attempt) []*v1alpha1.Attempt {
	return slices.Repeat([]*v1alpha1.Attempt{a}, n)
}

func TestReasonIsTheCause(t *testing.T) {
	failed := of(1, v1alpha1.OutcomeFailed5xx, http.StatusInternalServerError)
	for name, test := range map[string]struct {
		attempts        []*v1alpha1.Attempt
		reason, message string
		wait            v1alpha1.EndpointWaitReason
	}{
		"5xx":       {repeat(7, failed), "Failed5xx", "The last 7 attempts failed; most recent: HTTP 500.", v1alpha1.WaitCircuitOpen},
		"4xx":       {repeat(5, of(1, v1alpha1.OutcomeRejected4xx, http.StatusUnauthorized)), "Rejected4xx", "The last 5 attempts failed; most recent: HTTP 401.", ""},
		"429":       {repeat(5, of(1, v1alpha1.OutcomeRejected4xx, http.StatusTooManyRequests)), "Throttled", "The last 5 attempts failed; most recent: HTTP 429.", v1alpha1.WaitCircuitOpen},
		"timeout":   {repeat(5, timedOut()), "Timeout", "The last 5 attempts failed; most recent: timeout.", v1alpha1.WaitCircuitOpen},
		"blocked":   {repeat(5, of(1, v1alpha1.OutcomeAddressBlocked, 0)), "AddressBlocked", "The last 5 attempts failed; most recent: address blocked by the egress policy.", v1alpha1.WaitCircuitOpen},
		"TLS":       {repeat(5, of(1, v1alpha1.OutcomeTLSFailed, 0)), "TLSFailed", "The last 5 attempts failed; most recent: TLS failed.", v1alpha1.WaitCircuitOpen},
		"alternate": {slices.Repeat([]*v1alpha1.Attempt{failed, timedOut()}, 20), "Failed5xx", "The last 40 attempts failed; most recent: timeout.", v1alpha1.WaitCircuitOpen},
		"another":   {append(repeat(5, failed), repeat(5, timedOut())...), "Timeout", "The last 10 attempts failed; most recent: timeout.", v1alpha1.WaitCircuitOpen},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reporter{}
			inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
				attempts(l, test.attempts...)
				h := r.last(t)
				want(t, "status", h.Status, metav1.ConditionFalse)
				want(t, "reason", h.Reason, test.reason)
				want(t, "message", h.Message, test.message)
				want(t, "wait", h.Wait.Reason, test.wait)
			})
		})
	}
}

// Occasional failures do not make the health flap.
func TestHealthDoesNotFlipWithEachAttempt(t *testing.T) {
	failed := of(1, v1alpha1.OutcomeFailed5xx, http.StatusInternalServerError)
	r := &reporter{}
	inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
		attempts(l, repeat(5, failed)...)
		for range 20 {
			attempts(l, failed, succeeded(), failed, timedOut())
		}
		attempts(l, repeat(healthyAfter, succeeded())...)
		got := r.news()
		if len(got) > 3 || got[0] != "False Failed5xx" || got[len(got)-1] != "True Responding" {
			t.Errorf("news: %v", got)
		}
	})
}

// A Retry-After is reported with its end, and withdrawn at its end, whether or not deliveries wait.
func TestPauseIsReported(t *testing.T) {
	r := &reporter{}
	inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
		attempts(l, throttled(1, time.Second))
		want(t, "reports of a second's pause", len(r.all()), 0)
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.

		until := time.Now().Add(time.Hour)
		attempts(l, throttled(1, time.Hour))
		h := r.last(t)
		want(t, "status", h.Status, metav1.ConditionFalse)
		want(t, "reason", h.Reason, v1alpha1.ThrottledReason)
		want(t, "message", h.Message, "The endpoint asked to wait until "+until.UTC().Format(time.RFC3339)+" (Retry-After).")
		want(t, "wait", h.Wait.Reason, v1alpha1.WaitRetryAfter)
		want(t, "until", h.Wait.Until.Equal(until), true)
		want(t, "endpoints throttled", l.Stats().Throttled, 1)

		time.Sleep(time.Hour + time.Second) //nolint:forbidigo // The bubble's clock.
		h = r.last(t)
		want(t, "status after the end", h.Status, metav1.ConditionUnknown)
		want(t, "reason after the end", h.Reason, v1alpha1.UnprovenReason)
		want(t, "wait after the end", h.Wait, Wait{})
		want(t, "endpoints throttled after the end", l.Stats().Throttled, 0)
		attempts(l, succeeded())
		want(t, "status after a success", r.last(t).Status, metav1.ConditionTrue)
	})
}

// A Retry-After that another replica received is reported by this replica, too, which may have sent nothing.
func TestPauseOfAnotherReplicaIsReported(t *testing.T) {
	r := &reporter{}
	inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
		l.Observe(target("crm"), throttled(1, time.Hour))
		synctest.Wait()
		want(t, "wait", r.last(t).Wait.Reason, v1alpha1.WaitRetryAfter)
	})
}

// Each change of the next probe's time is reported, but only the first report is news.
func TestNextProbeIsReported(t *testing.T) {
	r := &reporter{}
	inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
		e := &endpoint{attempt: timedOut}
		for range 20 {
			l.Submit(target("crm"), e.work(time.Now().String(), time.Now()))
			time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		}
		h := r.last(t)
		want(t, "wait", h.Wait.Reason, v1alpha1.WaitCircuitOpen)
		want(t, "the probe is ahead, or due", h.Wait.Until.After(time.Now().Add(-time.Minute)), true)
		want(t, "news", len(r.news()), 1)
		want(t, "the same since the first", h.Since.Equal(r.all()[0].Since), true)

		l.SetRoute(changed("crm", 2, 2))
		synctest.Wait()
		h = r.last(t)
		want(t, "status of a new endpoint", h.Status, metav1.ConditionUnknown)
		want(t, "wait of a new endpoint", h.Wait, Wait{})
	})
}
