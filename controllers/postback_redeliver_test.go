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

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// storeDeliveries makes n deliveries of a Postback in a phase; "" means new ones.
func (b *bench) storeDeliveries(postback *v1alpha1.Postback, prefix string, n int, phase v1alpha1.DeliveryPhase) {
	b.t.Helper()
	for i := range n {
		d := newStoredDelivery(b.ns, v1alpha1.PostbackReference{Name: postback.Name, UID: postback.UID}, fmt.Sprintf("%s-%d", prefix, i))
		b.must(b.direct.Create(b.ctx, d))
		if phase != "" {
			d.Status.Phase = phase
			b.must(b.direct.Status().Update(b.ctx, d))
		}
	}
}

func newStoredDelivery(namespace string, of v1alpha1.PostbackReference, id string) *v1alpha1.PostbackDelivery {
	return delivery.FromSpec(namespace, v1alpha1.PostbackDeliverySpec{
		PostbackRef: of, Body: "{}", Event: v1alpha1.EventReference{ID: id, Type: "lead.created", CreatedAt: metav1.NowMicro()},
	})
}

// marks counts the namespace's deliveries, by the prefix of their event's id and the value of the annotation.
func (b *bench) marks() map[string]int {
	b.t.Helper()
	counts := map[string]int{}
	for _, d := range b.deliveries() {
		prefix, _, _ := strings.Cut(d.Spec.Event.ID, "-")
		counts[prefix+":"+d.Annotations[v1alpha1.PassedRedeliverAnnotation]]++
	}
	return counts
}

func (b *bench) checkMarks(want map[string]int) {
	b.t.Helper()
	if got := b.marks(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("marks %v, want %v", got, want)
	}
}

// reconcilePostback makes one pass, which must succeed.
func (b *bench) reconcilePostback(name string) ctrl.Result {
	b.t.Helper()
	result, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key(name)})
	b.must(err)
	return result
}

// settleRedelivery makes passes until the request is complete. It restarts the reconcilers after a failed pass.
func (b *bench) settleRedelivery(name string) *v1alpha1.Redelivery {
	b.t.Helper()
	for range 60 {
		if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key(name)}); err != nil {
			b.tolerate(err)
			b.restart()
		}
		if r := b.postback(name).Status.Redelivery; r != nil && r.CompletionTime != nil {
			return r
		}
	}
	b.t.Fatalf("the redelivery does not come to an end: %+v", b.postback(name).Status)
	return nil
}

func (b *bench) checkRedelivery(name string, status metav1.ConditionStatus, reason, part string) {
	b.t.Helper()
	condition := meta.FindStatusCondition(b.postback(name).Status.Conditions, v1alpha1.RedeliveryCondition)
	if condition == nil || condition.Status != status || condition.Reason != reason || !strings.Contains(condition.Message, part) {
		b.t.Errorf("condition %+v, want %s %s %q", condition, status, reason, part)
	}
}

func TestRedeliverSince(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.create(newPostback("crm-2", nil))
	b.settle("crm")
	crm := b.postback("crm")
	b.storeDeliveries(crm, "failed", 130, v1alpha1.DeliveryFailed)
	b.storeDeliveries(crm, "retrying", 90, v1alpha1.DeliveryRetrying)
	b.storeDeliveries(crm, "pending", 90, "")
	b.storeDeliveries(crm, "delivered", 10, v1alpha1.DeliveryDelivered)
	b.storeDeliveries(b.postback("crm-2"), "other", 5, v1alpha1.DeliveryFailed)
	// This delivery names the Postback and belongs to another, as after the Postback was deleted and made again.
	foreign := newStoredDelivery(b.ns, v1alpha1.PostbackReference{Name: "crm", UID: "gone"}, "foreign-0")
	foreign.OwnerReferences[0].Name, foreign.OwnerReferences[0].UID = "crm-2", b.postback("crm-2").UID
	b.create(foreign)
	b.told()

	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h/1")
	before := b.faulty.count()
	b.reconcilePostback("crm")
	first := b.postback("crm").Status.Redelivery
	if want := b.clock.Now().Add(-time.Hour).Truncate(time.Second); b.faulty.count() != before+1 || first == nil || first.Request != "1h/1" || !first.Since.Time.Equal(want) {
		t.Fatalf("%d writes before the status says what is meant: %+v", b.faulty.count()-before, first)
	}
	b.checkRedelivery("crm", metav1.ConditionFalse, v1alpha1.RedeliveryInProgressReason, first.Since.UTC().Format(time.RFC3339))
	// A duration counts back from the pass that first saw the request.
	b.clock.Step(2 * time.Hour)
	for range 2 {
		before := b.faulty.count()
		if result := b.reconcilePostback("crm"); result.RequeueAfter != time.Second {
			t.Errorf("looking again after %s", result.RequeueAfter)
		}
		if writes := b.faulty.count() - before; writes > enoughMarks+redeliverPage {
			t.Errorf("%d writes in one pass", writes)
		}
	}
	done := b.settleRedelivery("crm")
	if done.Requested != 310 || !done.Since.Equal(first.Since) {
		t.Errorf("status %+v", done)
	}
	b.checkRedelivery("crm", metav1.ConditionTrue, v1alpha1.RedeliveryCompleteReason, "310")
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Normal RedeliveryRequested") {
		t.Errorf("events %q", told)
	}
	b.checkMarks(map[string]int{
		"failed:1h/1": 130, "retrying:1h/1": 90, "pending:1h/1": 90, "delivered:": 10, "other:": 5, "foreign:": 1,
	})

	// A complete request causes no more writes.
	before = b.faulty.count()
	for range 5 {
		b.settle("crm")
		b.clock.Step(time.Minute)
	}
	if writes := b.faulty.count() - before; writes != 0 || len(b.told()) != 0 {
		t.Errorf("%d writes at rest", writes)
	}
	if len(b.postbacks.redeliveries.byPostback) != 0 {
		t.Error("what is complete is still in memory")
	}

	// Another token makes a new request, which selects only the deliveries made since its time.
	b.clock.SetTime(time.Now())
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, time.Now().UTC().Format(time.RFC3339)+"/2")
	b.storeDeliveries(crm, "young", 2, "")
	if done := b.settleRedelivery("crm"); done.Requested < 2 || done.Requested > 100 {
		t.Errorf("status %+v", done)
	}
	if b.marks()["young:"+b.postback("crm").Status.Redelivery.Request] != 2 {
		t.Errorf("marks %v", b.marks())
	}
}

// Writes at various points of the work fail, before or after they take effect.
func TestRedeliverSinceGoesOnAfterACrash(t *testing.T) {
	for name, after := range map[string]bool{"before the write": false, "after the write": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.create(newPostback("crm", nil))
			b.settle("crm")
			b.storeDeliveries(b.postback("crm"), "failed", 320, v1alpha1.DeliveryFailed)
			patched := map[string]int{}
			b.faulty.refuse = func(what string, object client.Object) error {
				if what == "patch" && object.GetName() != "crm" {
					patched[object.GetName()]++
				}
				return nil
			}
			total := 0
			for round, n := range []int{1, 2, 3, 57, 101, 102, 103, 104, 160, 203, 204, 322, 323, 324} {
				request := fmt.Sprintf("1h/%d", round)
				annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, request)
				clear(patched)
				b.faulty.arm(n, after)
				done := b.settleRedelivery("crm")
				if done.Requested != 320 || done.Request != request {
					t.Errorf("fault at write %d: status %+v", n, done)
				}
				b.checkMarks(map[string]int{"failed:" + request: 320})
				for name, times := range patched {
					if times != 1 {
						t.Errorf("fault at write %d: %s was marked %d times", n, name, times)
					}
				}
				if b.faulty.fired() {
					total++
				}
			}
			if total < 12 {
				t.Errorf("only %d faults happened", total)
			}
		})
	}
}

// The manager reads a delivery again if it was delivered, changed or deleted after the list.
func TestRedeliverSinceSeesWhatChangesMeanwhile(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	b.storeDeliveries(b.postback("crm"), "failed", 5, v1alpha1.DeliveryFailed)
	names := map[string]string{}
	for _, d := range b.deliveries() {
		names[d.Spec.Event.ID] = d.Name
	}
	fresh := func(id string) *v1alpha1.PostbackDelivery {
		d := &v1alpha1.PostbackDelivery{}
		b.must(b.direct.Get(b.ctx, b.key(names[id]), d))
		return d
	}
	changed := false
	b.postbacks.Live = interceptor.NewClient(b.direct, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			err := c.List(ctx, list, options...)
			if _, ok := list.(*metav1.PartialObjectMetadataList); ok && !changed {
				changed = true
				b.must(b.direct.Delete(b.ctx, fresh("failed-0")))
				delivered := fresh("failed-1")
				delivered.Status.Phase = v1alpha1.DeliveryDelivered
				b.must(b.direct.Status().Update(b.ctx, delivered))
				asked := fresh("failed-2")
				asked.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: "1"}
				b.must(b.direct.Update(b.ctx, asked))
			}
			return err
		},
	})
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h")
	if done := b.settleRedelivery("crm"); done.Requested != 3 {
		t.Errorf("status %+v", done)
	}
	b.checkMarks(map[string]int{"failed:1h": 3, "failed:": 1})
	if d := fresh("failed-1"); d.Annotations[v1alpha1.PassedRedeliverAnnotation] != "" {
		t.Error("what was delivered meanwhile is to be sent again")
	}
	if d := fresh("failed-2"); d.Annotations[v1alpha1.RedeliverAnnotation] != "1" || d.Annotations[v1alpha1.PassedRedeliverAnnotation] != "1h" {
		t.Errorf("annotations %v", d.Annotations)
	}
}

// A new value replaces a request in progress. A deleted Postback leaves nothing in memory.
func TestRedeliverSinceIsReplacedAndForgotten(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	b.storeDeliveries(b.postback("crm"), "failed", 150, v1alpha1.DeliveryFailed)
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h/1")
	b.reconcilePostback("crm")
	b.reconcilePostback("crm")
	if r := b.postback("crm").Status.Redelivery; r.Requested != 100 || r.CompletionTime != nil {
		t.Fatalf("status %+v", r)
	}
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h/2")
	b.reconcilePostback("crm")
	b.reconcilePostback("crm")
	b.checkMarks(map[string]int{"failed:1h/2": 100, "failed:": 50})
	// The removal of the annotation has no effect.
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Annotations = nil })
	b.reconcilePostback("crm")
	b.checkMarks(map[string]int{"failed:1h/2": 150})
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h/3")
	b.reconcilePostback("crm")
	b.reconcilePostback("crm")
	if len(b.postbacks.redeliveries.byPostback) != 1 {
		t.Error("nothing is in progress")
	}
	b.must(b.direct.Delete(b.ctx, b.postback("crm")))
	b.settle("crm")
	if len(b.postbacks.redeliveries.byPostback) != 0 {
		t.Error("the work for a deleted Postback is still in memory")
	}
}

// After a continue token expires, the round begins again.
func TestRedeliverSinceSurvivesAnExpiredPage(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	b.storeDeliveries(b.postback("crm"), "failed", 250, v1alpha1.DeliveryFailed)
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h")
	b.reconcilePostback("crm")
	b.reconcilePostback("crm")
	expired := 0
	b.postbacks.Live = interceptor.NewClient(b.direct, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			o := (&client.ListOptions{}).ApplyOptions(options)
			if o.Continue != "" && expired < 2 {
				expired++
				return apierrors.NewResourceExpired("the provided continue parameter is too old")
			}
			return c.List(ctx, list, options...)
		},
	})
	if done := b.settleRedelivery("crm"); done.Requested != 250 || expired != 2 {
		t.Errorf("%d pages expired, status %+v", expired, done)
	}
	b.checkMarks(map[string]int{"failed:1h": 250})
	kinds := slices.DeleteFunc(slices.Clone(b.faulty.kinds), func(kind string) bool { return kind != "patch *v1.PartialObjectMetadata" })
	if len(kinds) != 250 {
		t.Errorf("%d marks", len(kinds))
	}
}
