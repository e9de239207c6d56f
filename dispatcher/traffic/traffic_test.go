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

package traffic

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

var (
	start = time.Date(2026, 11, 28, 9, 31, 0, 0, time.UTC)
	crm   = &route.Route{Namespace: "acme", Name: "crm", UID: "u1"}
)

// cluster is an API server for several replicas, with a fake clock.
type cluster struct {
	t      *testing.T
	clock  *testingclock.FakeClock
	api    client.Client
	routes *route.Index
	writes int
	// refuse, if not nil, is the error of each write. If after is true, the write succeeds in spite of it.
	refuse error
	after  bool
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, clock: testingclock.NewFakeClock(start), routes: route.NewIndex()}
	write := func(do func() error) error {
		if c.refuse != nil && !c.after {
			return c.refuse
		}
		if err := do(); err != nil {
			return err
		}
		c.writes++
		return c.refuse
	}
	c.api = fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return write(func() error { return api.Create(ctx, o, options...) })
		},
		Update: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.UpdateOption) error {
			return write(func() error { return api.Update(ctx, o, options...) })
		},
	}).Build()
	c.routes.Set(crm)
	return c
}

func (c *cluster) replica() *Counter {
	return &Counter{Client: c.api, Routes: c.routes, Clock: c.clock}
}

// pass advances the clock second by second, and lets the replicas write their due counts.
func (c *cluster) pass(d time.Duration, replicas ...*Counter) {
	for range d / time.Second {
		c.clock.Step(time.Second)
		for _, r := range replicas {
			r.flush(c.t.Context(), false)
		}
	}
}

func (c *cluster) statistics() *v1alpha1.PostbackStatistics {
	c.t.Helper()
	s := &v1alpha1.PostbackStatistics{}
	if err := c.api.Get(c.t.Context(), crm.Key(), s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// expect fails the test unless the statistics have these counts.
func (c *cluster) expect(attempts, succeeded, delivered, failed int64) {
	c.t.Helper()
	s := c.statistics()
	want := v1alpha1.StatisticsTotal{Attempts: attempts, Succeeded: succeeded, Delivered: delivered, Failed: failed}
	if s.Total != want {
		c.t.Errorf("total %+v, not %+v", s.Total, want)
	}
	if day := statistics.Over(s, c.clock.Now(), 24*time.Hour); day.Attempts != attempts || day.Succeeded != succeeded || day.Delivered != delivered || day.Failed != failed {
		c.t.Errorf("day %+v, not %+v", day, want)
	}
}

func attempt(at time.Time, outcome v1alpha1.Outcome) *v1alpha1.Attempt {
	return &v1alpha1.Attempt{Time: metav1.NewMicroTime(at), Duration: metav1.Duration{Duration: 20 * time.Millisecond}, Outcome: outcome}
}

func (c *cluster) deliver(r *Counter, n int) {
	for range n {
		r.Count(crm, attempt(c.clock.Now(), v1alpha1.OutcomeSucceeded), v1alpha1.DeliveryDelivered)
	}
}

// fail counts n deliveries that fail after two attempts each.
func (c *cluster) fail(r *Counter, n int) {
	for range n {
		r.Count(crm, attempt(c.clock.Now(), v1alpha1.OutcomeFailed5xx), v1alpha1.DeliveryRetrying)
		r.Count(crm, attempt(c.clock.Now(), v1alpha1.OutcomeTimeout), v1alpha1.DeliveryFailed)
	}
}

func TestCounts(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	c.deliver(r, 200)
	c.fail(r, 10)
	c.pass(firstWrite+time.Second, r)
	c.expect(220, 200, 200, 10)
	s := c.statistics()
	if s.LastSuccessTime == nil || s.LastFailureTime == nil || !s.StartTime.Time.Equal(start) {
		t.Errorf("%+v", s)
	}
	if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != crm.UID || s.Labels[v1alpha1.PostbackLabel] != crm.Name {
		t.Errorf("owner and labels: %+v", s.ObjectMeta)
	}
	want := []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 200}, {Outcome: v1alpha1.OutcomeFailed5xx, Count: 10}, {Outcome: v1alpha1.OutcomeTimeout, Count: 10}}
	if got := s.Hours[0].Outcomes; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("outcomes %+v", got)
	}
}

// A restarted replica continues the counts of its predecessor.
func TestRestart(t *testing.T) {
	c := newCluster(t)
	before := c.replica()
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); before.Run(ctx) }()
	c.deliver(before, 5)
	end()
	<-done
	c.expect(5, 5, 5, 0)
	after := c.replica()
	c.fail(after, 1)
	c.pass(2*time.Minute, after)
	c.expect(7, 5, 5, 1)
}

// The replicas together write once a minute. Each gets its turn, and none loses another's counts.
func TestReplicas(t *testing.T) {
	const minutes = 12
	for _, n := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCluster(t)
			var replicas []*Counter
			for range n {
				replicas = append(replicas, c.replica())
			}
			for range minutes * 60 {
				for _, r := range replicas {
					c.deliver(r, 1)
				}
				c.pass(time.Second, replicas...)
			}
			if c.writes > minutes || c.writes < minutes*8/10 {
				t.Errorf("%d replicas: %d writes in %d minutes", n, c.writes, minutes)
			}
			sent := int64(n * minutes * 60)
			if lag := sent - c.statistics().Total.Attempts; lag > int64(n*(n+1)*70) {
				t.Errorf("%d replicas: %d attempts are not counted yet", n, lag)
			}
			for _, r := range replicas {
				r.flush(t.Context(), true)
			}
			c.expect(sent, sent, sent, 0)

			writes := c.writes
			c.pass(time.Hour, replicas...)
			if c.writes != writes {
				t.Errorf("%d replicas: %d writes while idle", n, c.writes-writes)
			}
			for _, r := range replicas {
				if len(r.books) > 0 {
					t.Errorf("%d replicas: an idle one keeps %d Postbacks in memory", n, len(r.books))
				}
			}
		})
	}
}

func TestFailedWrites(t *testing.T) {
	refused := errors.New("connection refused")
	for _, test := range []struct {
		name  string
		after bool
	}{{"the write fails", false}, {"the write succeeds, the answer is lost", true}} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			r := c.replica()
			c.refuse, c.after = refused, test.after
			c.deliver(r, 3)
			c.pass(10*time.Second, r)
			c.deliver(r, 4)
			c.refuse = nil
			c.pass(3*time.Minute, r)
			c.expect(7, 7, 7, 0)
		})
	}
}

func TestOwners(t *testing.T) {
	for _, test := range []struct {
		name   string
		owners []metav1.OwnerReference
		want   int64
	}{
		{"another Postback of the same name", []metav1.OwnerReference{{APIVersion: "postback.dev/v1alpha1", Kind: "Postback", Name: "crm", UID: "u0"}}, 1},
		{"without owner, as after a restore", nil, 8},
		{"the same Postback", []metav1.OwnerReference{{APIVersion: "postback.dev/v1alpha1", Kind: "Postback", Name: "crm", UID: crm.UID}}, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			old := &v1alpha1.PostbackStatistics{
				ObjectMeta: metav1.ObjectMeta{Namespace: crm.Namespace, Name: crm.Name, OwnerReferences: test.owners},
				StartTime:  metav1.NewTime(start.Add(-time.Hour)), LastUpdateTime: metav1.NewMicroTime(start.Add(-time.Hour)),
				Total: v1alpha1.StatisticsTotal{Attempts: 7, Succeeded: 7, Delivered: 7},
			}
			if err := c.api.Create(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			r := c.replica()
			c.deliver(r, 1)
			c.pass(5*time.Second, r)
			s := c.statistics()
			if s.Total.Attempts != test.want || len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != crm.UID {
				t.Errorf("%+v %+v", s.Total, s.OwnerReferences)
			}
		})
	}
}

// A clock that is, or was, a day ahead delays other replicas by at most a minute.
func TestClockAhead(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	ahead := &Counter{Client: c.api, Routes: c.routes, Clock: testingclock.NewFakeClock(start.Add(24 * time.Hour))}
	c.deliver(ahead, 1)
	ahead.flush(t.Context(), true)
	c.deliver(r, 1)
	c.pass(90*time.Second, r)
	c.expect(2, 2, 2, 0)
}

func TestDeletedPostback(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	c.deliver(r, 1)
	c.routes.Delete(crm.UID)
	c.pass(time.Minute, r)
	if c.writes > 0 || len(r.books) > 0 {
		t.Errorf("%d writes, %d in memory", c.writes, len(r.books))
	}
}

func TestSevenDays(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	for range 10 * 24 {
		c.deliver(r, 1)
		c.clock.Step(time.Hour)
		r.flush(t.Context(), false)
	}
	s := c.statistics()
	if len(s.Hours) < 168 || len(s.Hours) > 169 || s.Total.Attempts != 240 {
		t.Errorf("%d hours, %d attempts", len(s.Hours), s.Total.Attempts)
	}
	week := statistics.Over(s, c.clock.Now(), 7*24*time.Hour)
	if week.Attempts != int64(len(s.Hours)) {
		t.Errorf("%d attempts in a week of %d hours", week.Attempts, len(s.Hours))
	}
}

// A long outage of the API server does not fill the memory.
func TestLongOutage(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	c.refuse = errors.New("connection refused")
	for range 10 * 24 {
		c.deliver(r, 1)
		c.clock.Step(time.Hour)
		r.flush(t.Context(), false)
	}
	if n := len(r.books[crm.UID].hours); n > 169 {
		t.Errorf("%d hours in memory", n)
	}
}

func TestOutcomesFit(t *testing.T) {
	if len(v1alpha1.Outcomes) != maxOutcomes {
		t.Errorf("%d outcomes, room for %d", len(v1alpha1.Outcomes), maxOutcomes)
	}
}

func TestCountAllocatesNothing(t *testing.T) {
	c := newCluster(t)
	r := c.replica()
	a := attempt(start, v1alpha1.OutcomeSucceeded)
	r.Count(crm, a, v1alpha1.DeliveryDelivered)
	if n := testing.AllocsPerRun(100, func() { r.Count(crm, a, v1alpha1.DeliveryDelivered) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	r := &Counter{Routes: route.NewIndex(), Clock: testingclock.NewFakeClock(start)}
	routes := make([]*route.Route, 64)
	for i := range routes {
		routes[i] = &route.Route{Namespace: "acme", Name: "crm", UID: types.UID(rune('a' + i))}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		a := attempt(start, v1alpha1.OutcomeSucceeded)
		for i := 0; pb.Next(); i++ {
			r.Count(routes[i%len(routes)], a, v1alpha1.DeliveryDelivered)
		}
	})
}
