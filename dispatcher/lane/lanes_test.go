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
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// endpoint is an endpoint whose attempts a test observes.
type endpoint struct {
	mu      sync.Mutex
	begun   []begun
	now     int
	most    int
	takes   time.Duration
	attempt func() *v1alpha1.Attempt
}

type begun struct {
	name string
	at   time.Time
}

func (e *endpoint) work(name string, due time.Time) *Work {
	return &Work{
		Key: types.NamespacedName{Namespace: "tenant", Name: name}, Due: due,
		Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) {
			e.mu.Lock()
			e.begun = append(e.begun, begun{name, time.Now()})
			e.now++
			e.most = max(e.most, e.now)
			takes, attempt := e.takes, e.attempt
			e.mu.Unlock()
			timer := time.NewTimer(takes)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.now--
			if attempt == nil {
				attempt = succeeded
			}
			sent(attempt())
		},
	}
}

func (e *endpoint) set(attempt func() *v1alpha1.Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attempt = attempt
}

func (e *endpoint) got() []begun {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.begun)
}

func succeeded() *v1alpha1.Attempt {
	return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeSucceeded, PostbackGeneration: 1}
}

func timedOut() *v1alpha1.Attempt {
	return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeTimeout, PostbackGeneration: 1}
}

func target(uid string) *route.Route {
	return &route.Route{Namespace: "tenant", Name: uid, UID: types.UID(uid), Generation: 1, URL: "https://" + uid + ".example.com/"}
}

// inBubble runs a test with running Lanes in a synctest bubble.
func inBubble(t *testing.T, o Options, test func(t *testing.T, l *Lanes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		stop, cancel := context.WithCancel(t.Context())
		o.Clock = clock.RealClock{}
		l := New(stop, o)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.Run()
		}()
		test(t, l)
		cancel()
		<-ended
	})
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Hanging endpoints leave slots for the others (convoy#1926, keygen-api#771).
func TestHangingEndpointsLeaveRoomForTheOthers(t *testing.T) {
	inBubble(t, Options{MaxInFlight: 32}, func(t *testing.T, l *Lanes) {
		hanging := &endpoint{takes: time.Hour}
		for i := range 20 {
			for j := range 100 {
				l.Submit(target(fmt.Sprintf("hanging-%d", i)), hanging.work(fmt.Sprint(j), time.Now()))
			}
		}
		synctest.Wait()
		healthy := &endpoint{takes: time.Millisecond}
		for i := range 50 {
			l.Submit(target("healthy"), healthy.work(fmt.Sprint(i), time.Now()))
		}
		time.Sleep(time.Second) //nolint:forbidigo // The bubble's clock.
		want(t, "to the healthy endpoint", len(healthy.got()), 50)
		if most := l.Stats().InFlight; most > 32 {
			t.Errorf("%d attempts in flight", most)
		}
	})
}

func TestConcurrencyOfAnEndpointIsBounded(t *testing.T) {
	for limit, most := range map[int32]int{0: defaultMaxConcurrent, 1: 1, 40: 40} {
		inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
			r, e := target("crm"), &endpoint{takes: time.Second}
			r.MaxConcurrent = limit
			for i := range 100 {
				l.Submit(r, e.work(fmt.Sprint(i), time.Now()))
			}
			time.Sleep(2 * time.Minute) //nolint:forbidigo // The bubble's clock.
			want(t, "all go", len(e.got()), 100)
			want(t, "at a time", e.most, most)
		})
	}
}

// The rate limit holds in every second, and attempts beyond it wait (convoy#1927).
func TestRateOfAnEndpointIsBounded(t *testing.T) {
	for _, limit := range []int32{1, 7, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				r, e := target("crm"), &endpoint{}
				r.PerSecond = limit
				count := 5 * int(limit)
				for i := range count {
					l.Submit(r, e.work(fmt.Sprint(i), time.Now()))
				}
				time.Sleep(10 * time.Second) //nolint:forbidigo // The bubble's clock.
				all := e.got()
				want(t, "all go", len(all), count)
				for i, j := 0, 0; i < len(all); i++ {
					for all[i].at.Sub(all[j].at) >= time.Second {
						j++
					}
					if in := i - j + 1; in > int(limit) {
						t.Fatalf("%d in a second, the limit is %d", in, limit)
					}
				}
				if took := all[count-1].at.Sub(all[0].at); took > 6*time.Second {
					t.Errorf("%d at %d a second took %s", count, limit, took)
				}
			})
		})
	}
}

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

// The deletion of a Postback interrupts its attempts in flight and drops its waiting work (svix#1511,
// keygen-api#139).
func TestDeletionEndsWhatIsInFlightAndWhatWaits(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		var causes []error
		e := &endpoint{}
		for i := range 100 {
			w := e.work(fmt.Sprint(i), time.Now())
			w.Do = func(ctx context.Context, _ func(*v1alpha1.Attempt)) {
				<-ctx.Done()
				e.mu.Lock()
				defer e.mu.Unlock()
				causes = append(causes, context.Cause(ctx))
			}
			l.Submit(target("crm"), w)
		}
		synctest.Wait()
		l.Delete("crm")
		synctest.Wait()
		want(t, "attempts that ended", len(causes), defaultMaxConcurrent)
		for _, cause := range causes {
			want(t, "cause", cause, ErrDeleted)
		}
		want(t, "left", l.Stats(), Stats{})
	})
}

// A slow API server does not delay attempts until MaxInFlight of them are unrecorded.
func TestPlaceIsFreeWhileAttemptsAreRecorded(t *testing.T) {
	const most = 64
	inBubble(t, Options{MaxInFlight: most}, func(t *testing.T, l *Lanes) {
		recorded := make(chan struct{})
		begun, order := atomic.Int32{}, time.Now()
		for i := range 100 {
			l.Submit(target("crm"), &Work{
				Key: types.NamespacedName{Namespace: "tenant", Name: fmt.Sprint(i)}, Due: order,
				Do: func(_ context.Context, sent func(*v1alpha1.Attempt)) {
					begun.Add(1)
					sent(succeeded())
					<-recorded
				},
			})
		}
		synctest.Wait()
		want(t, "begun while none is recorded", int(begun.Load()), most+defaultMaxConcurrent)
		close(recorded)
		synctest.Wait()
		want(t, "begun in the end", int(begun.Load()), 100)
		want(t, "left", l.Stats(), Stats{})
	})
}

// New work for a delivery waits until its attempt in flight has ended.
func TestOneAttemptOfADeliveryAtATime(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		e := &endpoint{takes: time.Second}
		for range 5 {
			l.Submit(target("crm"), e.work("same", time.Now()))
		}
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "attempts", len(e.got()), 2)
		want(t, "at a time", e.most, 1)
	})
}

func TestReserve(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
		e := &endpoint{takes: time.Hour}
		var reservations []func(*Work)
		for begin := l.Admit(target("crm")); begin != nil; begin = l.Admit(target("crm")) {
			reservations = append(reservations, begin)
		}
		want(t, "reservations", len(reservations), firstWaiting)
		reservations[0](nil)
		if again := l.Admit(target("crm")); again == nil {
			t.Error("a reservation that was given back cannot be made again")
		} else {
			reservations[0] = again
		}
		for i, begin := range reservations {
			begin(e.work(fmt.Sprint(i), time.Now()))
		}
		synctest.Wait()
		want(t, "in flight", len(e.got()), defaultMaxConcurrent)
	})
}

func TestCloseEndsRunWhenAllIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(t.Context(), Options{Clock: clock.RealClock{}})
		e, gone := &endpoint{takes: time.Second}, &endpoint{attempt: func() *v1alpha1.Attempt {
			return &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeGone, PostbackGeneration: 1}
		}}
		for i := range 100 {
			l.Submit(target("crm"), e.work(fmt.Sprint(i), time.Now()))
		}
		l.Submit(target("gone"), gone.work("1", time.Now()))
		synctest.Wait()
		l.Submit(target("gone"), gone.work("2", time.Now()))
		l.Close()
		l.Submit(target("crm"), e.work("late", time.Now()))
		l.Run()
		want(t, "what was there is done", len(e.got()), 100)
		want(t, "what waits for an endpoint is dropped", len(gone.got()), 1)
	})
}

// The number of first attempts that a lane admits depends on the duration of recent attempts.
func TestPromisesFollowThePaceOfTheEndpoint(t *testing.T) {
	for name, test := range map[string]struct {
		took time.Duration
		want int
	}{
		"not known":  {0, firstWaiting},
		"at once":    {time.Millisecond, mostWaiting},
		"in a while": {400 * time.Millisecond, 5 * defaultMaxConcurrent},
		"slow":       {10 * time.Second, leastWaiting},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				answered := make(chan struct{})
				l.Submit(target("crm"), &Work{Do: func(_ context.Context, sent func(*v1alpha1.Attempt)) {
					defer close(answered)
					a := succeeded()
					a.Duration = metav1.Duration{Duration: test.took}
					sent(a)
				}})
				<-answered
				synctest.Wait()
				promised := 0
				for l.Admit(target("crm")) != nil {
					promised++
				}
				want(t, "first attempts promised", promised, test.want)
			})
		})
	}
}
