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
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

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
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
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
		})
	}
}

// The rate limit holds in every second, and attempts beyond it wait (convoy#1927).
func TestRateOfAnEndpointIsBounded(t *testing.T) {
	for _, limit := range []int32{1, 7, 100, 1000} {
		t.Run(fmt.Sprintf("%d per second", limit), func(t *testing.T) {
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
