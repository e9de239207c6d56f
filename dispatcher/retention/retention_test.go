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

package retention

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func keeps(delivered, failed int32, ttl time.Duration) route.History {
	return route.History{Delivered: delivered, Failed: failed, TTL: metav1.Duration{Duration: ttl}}
}

func prunedTotal() float64 {
	total := 0.0
	for _, reason := range []string{reasonCount, reasonTTL, reasonClusterLimit} {
		total += testutil.ToFloat64(pruned.WithLabelValues(reason))
	}
	return total
}

// With thousands of deliveries the bounds hold, the oldest are deleted, unfinished ones stay, and it takes little
// time.
func TestThousandsAreDeletedOldestFirst(t *testing.T) {
	b := newBench(t)
	large, small := b.postback("large", keeps(100, 50, 168*time.Hour)), b.postback("small", keeps(25, 5, 168*time.Hour))
	unrouted := b.postback("unrouted", route.History{})
	const many = 2500
	b.store(large, "delivered", many, isDelivered, nil)
	b.store(large, "failed", 300, isFailed, nil)
	b.store(large, "pending", 20, "", nil)
	b.store(large, "retrying", 20, v1alpha1.DeliveryRetrying, nil)
	b.store(small, "delivered", 30, isDelivered, nil)
	b.store(unrouted, "delivered", 40, isDelivered, nil)
	before := b.all()
	b.clock.SetTime(time.Now())

	prunedBefore := prunedTotal()
	k, stop := b.follow(0)
	b.settle(k, many+300+30+40)
	if n := b.deletes.Load(); n != 0 {
		t.Errorf("%d deletes before late duplicates have had their time", n)
	}
	b.clock.Step(duplicateWindow)
	began := time.Now()
	b.g.Eventually(func() int { return b.kept(k) }).WithTimeout(patience).WithPolling(5 * time.Millisecond).Should(Equal(100 + 50 + 25 + 40))
	took := time.Since(began)
	t.Logf("%d deletes in %s: %.0f a second", b.deletes.Load(), took.Round(time.Millisecond), float64(b.deletes.Load())/took.Seconds())
	after := b.all()
	b.checkKept(before, after, map[string]int{"large/Delivered": 100, "large/Failed": 50, "large/Pending": 20, "large/Retrying": 20, "small/Delivered": 25, "unrouted/Delivered": 40})
	if got := prunedTotal() - prunedBefore; int(got) != len(before)-len(after) {
		t.Errorf("the metric counts %v of %d", got, len(before)-len(after))
	}

	// Another replica is elected. It finds the same deliveries and has a smaller bound.
	stop()
	if testutil.CollectAndCount(k) != 0 {
		t.Error("the gauge is reported by a replica that is not elected")
	}
	k, _ = b.follow(60)
	b.settle(k, 60)
	if testutil.CollectAndCount(k) != 2 {
		t.Error("the gauge is not reported")
	}
	b.checkKept(after, b.all(), nil)
}

// checkKept checks the number of kept deliveries for each namespace and phase, or for all together. It also checks
// that each deleted delivery finished before the kept ones.
func (b *bench) checkKept(before, after map[types.NamespacedName]v1alpha1.PostbackDelivery, want map[string]int) {
	b.t.Helper()
	class := func(d *v1alpha1.PostbackDelivery) string {
		if want == nil && d.Status.Phase.Finished() {
			return "all"
		}
		return d.Namespace + "/" + string(d.Status.Phase)
	}
	finishedOf := func(d *v1alpha1.PostbackDelivery) time.Time {
		return finishedAt(&metav1.PartialObjectMetadata{ObjectMeta: d.ObjectMeta})
	}
	got, oldestKept := map[string]int{}, map[string]time.Time{}
	for _, d := range after {
		got[class(&d)]++
		if at := finishedOf(&d); oldestKept[class(&d)].IsZero() || at.Before(oldestKept[class(&d)]) {
			oldestKept[class(&d)] = at
		}
	}
	for key, d := range before {
		if _, ok := after[key]; !ok && finishedOf(&d).After(oldestKept[class(&d)]) {
			b.t.Errorf("%s finished at %s and is gone, though one of %s is kept", key, finishedOf(&d), oldestKept[class(&d)])
		}
	}
	if want != nil && fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("kept %v, want %v", got, want)
	}
}

// A delivery finished when its status was last written, whatever else was written later.
func TestFinishedAt(t *testing.T) {
	b := newBench(t)
	p := b.postback("finished-at", keeps(10, 10, time.Hour))
	b.store(p, "delivered", 1, "", nil)
	b.g.Eventually(func() bool { // Managed fields have times in seconds.
		for _, d := range b.all() {
			return time.Since(d.CreationTimestamp.Time) > 2500*time.Millisecond
		}
		return false
	}).WithTimeout(patience).Should(BeTrue())
	var asked, written time.Time
	for _, d := range b.all() {
		d.Status.Phase = isDelivered
		asked = time.Now()
		b.g.Expect(b.client.Status().Update(t.Context(), &d)).To(Succeed())
		written = time.Now()
	}
	at := func() time.Time {
		for _, d := range b.all() {
			return finishedAt(&metav1.PartialObjectMetadata{ObjectMeta: d.ObjectMeta})
		}
		return time.Time{}
	}
	first := at()
	if first.Before(asked.Truncate(time.Second)) || first.After(written) {
		t.Errorf("finished at %s, written from %s to %s", first, asked, written)
	}
	b.g.Eventually(func() bool { return time.Since(written) > 1500*time.Millisecond }).WithTimeout(patience).Should(BeTrue())
	for _, d := range b.all() {
		d.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: "1"}
		b.g.Expect(b.client.Update(t.Context(), &d)).To(Succeed())
	}
	if second := at(); !second.Equal(first) {
		t.Errorf("an annotation moved it from %s to %s", first, second)
	}
	plain := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon)}}
	if got := finishedAt(plain); !got.Equal(noon) {
		t.Errorf("without managed fields: %s", got)
	}
}

// A redelivery is requested during the deletes: either the request fails, or the delivery stays and is redelivered.
func TestARedeliverAnnotationIsNeverLost(t *testing.T) {
	b := newBench(t)
	p := b.postback("race", keeps(0, 0, time.Hour))
	const many = 600
	b.store(p, "delivered", many, isDelivered, nil)
	all := b.all()
	keys := make(chan types.NamespacedName, many)
	for key := range all {
		keys <- key
	}
	close(keys)
	b.clock.SetTime(time.Now().Add(time.Second))
	k, _ := b.follow(0)

	var mu sync.Mutex
	var asked []types.NamespacedName
	var askers sync.WaitGroup
	for i := range 4 {
		annotation := []string{v1alpha1.RedeliverAnnotation, v1alpha1.PassedRedeliverAnnotation}[i%2]
		askers.Go(func() {
			for key := range keys {
				d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
				patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"1"}}}`, annotation))
				switch err := b.client.Patch(t.Context(), d, patch); {
				case err == nil:
					mu.Lock()
					asked = append(asked, key)
					mu.Unlock()
				case !apierrors.IsNotFound(err):
					t.Error(err)
				}
			}
		})
	}
	b.clock.Step(duplicateWindow)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		askers.Wait()
	}()
	b.g.Eventually(func() bool {
		b.clock.Step(pruneInterval)
		select {
		case <-stopped:
			return true
		default:
			return false
		}
	}).WithTimeout(patience).WithPolling(5 * time.Millisecond).Should(BeTrue())
	b.settle(k, len(asked))
	t.Logf("%d were asked for in time, %d were gone", len(asked), many-len(asked))
	left := b.all()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range asked {
		if _, ok := left[key]; !ok {
			t.Errorf("%s was asked for, and deleted", key)
		}
		if b.requests[key] == 0 {
			t.Errorf("%s was asked for, and nobody was told", key)
		}
	}
	if len(asked) == 0 || len(asked) == many {
		t.Errorf("there was no race: %d of %d", len(asked), many)
	}
}

// A handled request does not prevent the delete.
func TestAnsweredRequestsKeepNothing(t *testing.T) {
	b := newBench(t)
	p := b.postback("answered", keeps(0, 0, time.Hour))
	for name, of := range map[string]struct {
		annotation, value string
		handle            func(*v1alpha1.PostbackDeliveryStatus)
	}{
		"handled":              {v1alpha1.RedeliverAnnotation, "1", func(s *v1alpha1.PostbackDeliveryStatus) { s.LastHandledRedeliver = "1" }},
		"handled_for_postback": {v1alpha1.PassedRedeliverAnnotation, "1h/1", func(s *v1alpha1.PostbackDeliveryStatus) { s.LastHandledRedeliverFromPostback = "1h/1" }},
		"open":                 {v1alpha1.RedeliverAnnotation, "2", func(s *v1alpha1.PostbackDeliveryStatus) { s.LastHandledRedeliver = "1" }},
		"open_for_postback":    {v1alpha1.PassedRedeliverAnnotation, "1h/2", func(s *v1alpha1.PostbackDeliveryStatus) { s.LastHandledRedeliver = "1h/2" }},
	} {
		b.store(p, name, 1, isFailed, func(d *v1alpha1.PostbackDelivery) {
			d.Annotations = map[string]string{of.annotation: of.value}
			of.handle(&d.Status)
		})
	}
	k, _ := b.follow(0)
	b.clock.Step(duplicateWindow + time.Second)
	b.settle(k, 2)
	for _, d := range b.all() {
		if d.Spec.Event.ID != "open-0" && d.Spec.Event.ID != "open_for_postback-0" {
			t.Errorf("%s is still there", d.Spec.Event.ID)
		}
		// The request is handled, and the delivery has finished again.
		d.Status.LastHandledRedeliver, d.Status.LastHandledRedeliverFromPostback = "2", "1h/2"
		b.g.Expect(b.client.Status().Update(t.Context(), &d)).To(Succeed())
	}
	b.clock.Step(duplicateWindow + time.Second)
	b.settle(k, 0)
}

// While the API server refuses deletes, few are tried. Afterwards all are made.
func TestRefusedDeletesBackOff(t *testing.T) {
	b := newBench(t)
	p := b.postback("refused", keeps(0, 0, time.Hour))
	b.store(p, "delivered", 300, isDelivered, nil)
	var away atomic.Bool
	away.Store(true)
	b.refuse = func(client.Object) error {
		if away.Load() {
			return apierrors.NewInternalError(errors.New("made to fail"))
		}
		return nil
	}
	k, _ := b.follow(0)
	b.clock.Step(duplicateWindow + time.Second)
	b.settle(k, 300)
	// Twenty seconds of its clock have passed, with pauses of 0.5, 1, 2, 4, 8 and 16 seconds.
	if n := b.deletes.Load(); n == 0 || n > 7*(enoughFailures+workers) {
		t.Errorf("%d deletes while the API server was away", n)
	}
	away.Store(false)
	b.clock.Step(longestPause)
	b.g.Eventually(func() int { b.clock.Step(10 * time.Second); return b.kept(k) }).WithTimeout(patience).WithPolling(20 * time.Millisecond).Should(Equal(0))
}

// A delivery or a namespace that cannot be deleted does not delay the others.
func TestOneRefusalKeepsNoOther(t *testing.T) {
	b := newBench(t)
	denied, other := b.postback("denied", keeps(0, 0, time.Hour)), b.postback("other", keeps(0, 0, time.Hour))
	b.store(denied, "delivered", 30, isDelivered, nil)
	b.store(other, "delivered", 250, isDelivered, nil)
	b.refuse = func(o client.Object) error {
		if o.GetNamespace() == "denied" {
			return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("postbackdeliveries").GroupResource(), o.GetName(), errors.New("made to fail"))
		}
		return nil
	}
	k, _ := b.follow(0)
	b.clock.Step(duplicateWindow + time.Second)
	b.settle(k, 30)
	tries := b.deletes.Load()
	b.g.Consistently(b.deletes.Load).WithTimeout(time.Second).Should(Equal(tries), "without the clock nothing is tried again")
}

// After an outage of the API server, the index is still valid and the deletes continue.
func TestRetentionOutlivesTheAPIServer(t *testing.T) {
	b := newBench(t)
	p := b.postback("outage", keeps(7, 0, time.Hour))
	b.store(p, "delivered", 500, isDelivered, nil)
	before := b.all()
	var halfway sync.Once
	stopped := make(chan error, 1)
	b.refuse = func(client.Object) error {
		if b.deletes.Load() > 250 {
			halfway.Do(func() { stopped <- cp.StopAPIServer() })
		}
		return nil
	}
	k, _ := b.follow(0)
	b.clock.SetTime(time.Now().Add(duplicateWindow + time.Second))
	b.g.Eventually(func() int { b.kept(k); return len(stopped) }).WithTimeout(patience).WithPolling(5 * time.Millisecond).Should(Equal(1))
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	// On its clock, a failed delete is postponed by a minute, and the next batch by some seconds.
	b.g.Consistently(func() int { return b.kept(k) }).WithTimeout(time.Second).WithPolling(50 * time.Millisecond).Should(BeNumerically(">", 7))
	if err := cp.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	b.g.Eventually(func() int { b.clock.Step(10 * time.Second); return b.kept(k) }).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(Equal(7))
	b.checkKept(before, b.all(), map[string]int{"outage/Delivered": 7})
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{MaxFinished: -1}); err == nil {
		t.Error("a negative bound is taken")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no client is taken")
	}
}
