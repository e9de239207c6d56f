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
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// failedBefore returns, for each endpoint but one, a delivery whose recorded attempt timed out.
func failedBefore(healthy types.UID) func(*route.Route) []*v1alpha1.PostbackDelivery {
	return func(r *route.Route) []*v1alpha1.PostbackDelivery {
		if r.UID == healthy {
			return nil
		}
		return []*v1alpha1.PostbackDelivery{{Status: v1alpha1.PostbackDeliveryStatus{Attempts: []v1alpha1.Attempt{*timedOut()}}}}
	}
}

// A replica that starts during an outage finds the deliveries of many endpoints due. They must not take the slots of
// other endpoints.
func TestTroubledEndpointsShareAPartOfTheSlots(t *testing.T) {
	inBubble(t, Options{MaxInFlight: 32, Unfinished: failedBefore("healthy")}, func(t *testing.T, l *Lanes) {
		hanging := &endpoint{takes: 10 * time.Second, attempt: timedOut}
		for i := range 100 {
			for j := range 10 {
				l.Submit(target(fmt.Sprintf("hanging-%d", i)), hanging.work(fmt.Sprint(j), time.Now()))
			}
		}
		synctest.Wait()
		want(t, "in flight to troubled endpoints", l.Stats().InFlight, 8)
		for range 100 {
			healthy := &endpoint{takes: time.Millisecond}
			for i := range 10 {
				l.Submit(target("healthy"), healthy.work(fmt.Sprint(i), time.Now()))
			}
			time.Sleep(time.Second) //nolint:forbidigo // The bubble's clock.
			want(t, "to the healthy endpoint within a second", len(healthy.got()), 10)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		if got := len(hanging.got()); got < 100 {
			t.Errorf("%d attempts at 100 troubled endpoints", got)
		}
		hanging.mu.Lock()
		want(t, "in flight to troubled endpoints at a time", hanging.most, 8)
		hanging.takes, hanging.attempt = time.Millisecond, nil
		hanging.mu.Unlock()
		time.Sleep(time.Hour) //nolint:forbidigo // The bubble's clock.
		want(t, "left when they are back", l.Stats(), Stats{})
	})
}

// An endpoint whose deliveries failed before this replica started gets a probe first.
func TestEndpointThatFailedBeforeIsProbedFirst(t *testing.T) {
	inBubble(t, Options{Unfinished: failedBefore("healthy")}, func(t *testing.T, l *Lanes) {
		e := &endpoint{takes: time.Second, attempt: timedOut}
		for i := range 100 {
			l.Submit(target("failed"), e.work(fmt.Sprint(i), time.Now()))
		}
		time.Sleep(5 * time.Second) //nolint:forbidigo // The bubble's clock.
		want(t, "attempts", len(e.got()), 1)
		e.set(nil)
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "attempts when it is back", len(e.got()), 100)
	})
}

// A troubled endpoint that waits for a slot, and recovers, waits only as the healthy ones do.
func TestEndpointThatIsWellAgainLeavesTheShare(t *testing.T) {
	inBubble(t, Options{MaxInFlight: 16}, func(t *testing.T, l *Lanes) {
		occupy := func(r *route.Route, takes time.Duration, outcome func() *v1alpha1.Attempt) *endpoint {
			e := &endpoint{takes: takes, attempt: outcome}
			l.Submit(r, e.work("first", time.Now()))
			return e
		}
		// All slots of Recovery.Share are in use for an hour.
		for i := range 4 {
			r := target(fmt.Sprintf("hanging-%d", i))
			occupy(r, time.Millisecond, timedOut)
			time.Sleep(time.Second) //nolint:forbidigo // The bubble's clock.
			l.Submit(r, (&endpoint{takes: time.Hour}).work("second", time.Now()))
		}
		r := target("mended")
		// One attempt is in flight and will succeed. Another fails meanwhile, after which the next has to wait.
		occupy(r, time.Minute, succeeded)
		failing := &endpoint{takes: time.Second, attempt: timedOut}
		l.Submit(r, failing.work("failing", time.Now()))
		time.Sleep(2 * time.Second) //nolint:forbidigo // The bubble's clock.
		waiting := &endpoint{takes: time.Millisecond}
		l.Submit(r, waiting.work("waiting", time.Now()))
		synctest.Wait()
		want(t, "while it is troubled", len(waiting.got()), 0)
		time.Sleep(time.Minute) //nolint:forbidigo // The bubble's clock.
		want(t, "when it is not", len(waiting.got()), 1)
	})
}

// Work that ends with its Postback, or without an attempt, releases its slot of Recovery.Share.
func TestPlacesInDoubtAreGivenBack(t *testing.T) {
	inBubble(t, Options{MaxInFlight: 8, Unfinished: failedBefore("healthy")}, func(t *testing.T, l *Lanes) {
		for i := range 20 {
			name := fmt.Sprintf("deleted-%d", i)
			l.Submit(target(name), &Work{Key: types.NamespacedName{Name: name}, Do: func(ctx context.Context, _ func(*v1alpha1.Attempt)) { <-ctx.Done() }})
			synctest.Wait()
			l.Delete(types.UID(name))
			synctest.Wait()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		want(t, "slots of troubled endpoints", l.troubledInFlight, 0)
	})
}
