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
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Each test of this file reproduces a fault of another operator: docs/regressions.md.

// blindClient never finds PostbackSecrets, like a stale cache.
type blindClient struct {
	client.Client
}

func (c blindClient) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if _, ok := into.(*v1alpha1.PostbackSecret); ok {
		return apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("postbacksecrets").GroupResource(), key.Name)
	}
	return c.Client.Get(ctx, key, into, opts...)
}

// A PostbackSecret that the cache does not show for a long time is neither made twice nor an error.
func TestCreateThatTheCacheDoesNotShowIsAdopted(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	live := b.postbacks.Client
	b.postbacks.Client = blindClient{live}
	for pass := range 10 {
		result, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
		// The first pass makes the PostbackSecret, and need not requeue because the watch would show it.
		if err != nil || pass > 0 && result.RequeueAfter < minRequeue {
			t.Fatalf("looks again after %s, %v", result.RequeueAfter, err)
		}
	}
	list := &v1alpha1.PostbackSecretList{}
	b.must(b.direct.List(b.ctx, list, client.InNamespace(b.ns)))
	if len(list.Items) != 1 {
		t.Errorf("%d PostbackSecrets", len(list.Items))
	}
	b.postbacks.Client = live
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

// The Secret decides whether a rotation is due, because the status may be stale.
func TestStaleStatusDoesNotRotateTwice(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(2*time.Hour, time.Hour) }))
	b.settleSecret("crm")
	b.clock.Step(2 * time.Hour)
	stale := b.postbackSecret("crm") // its nextRotationTime is now
	b.settleSecret("crm")
	if version := b.keyring("crm").Version; version != 2 {
		t.Fatalf("version %d", version)
	}
	b.secrets.Client = staleClient{Client: b.secrets.Client, object: stale}
	for range 3 {
		if _, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err != nil {
			t.Fatal(err)
		}
	}
	if version := b.keyring("crm").Version; version != 2 {
		t.Errorf("rotated again, to version %d", version)
	}
}

// A new annotation does not change the generation, and passes the predicate nevertheless.
func TestActionAnnotationsAreLookedAt(t *testing.T) {
	for _, test := range []struct {
		object     client.Object
		look       predicate.Predicate
		annotation string
		want       bool
	}{
		{newPostback("crm", nil), postbackChanged(), v1alpha1.RotateSecretAnnotation, true},
		{newPostback("crm", nil), postbackChanged(), v1alpha1.SendTestAnnotation, true},
		{newPostback("crm", nil), postbackChanged(), v1alpha1.RedeliverSinceAnnotation, true},
		{newPostback("crm", nil), postbackChanged(), "example.com/note", false},
		{newPostbackSecret("crm", nil), postbackSecretChanged(), v1alpha1.RotateSecretAnnotation, true},
		{newPostbackSecret("crm", nil), postbackSecretChanged(), v1alpha1.PassedRotateSecretAnnotation, true},
		{newPostbackSecret("crm", nil), postbackSecretChanged(), "example.com/note", false},
	} {
		t.Run(fmt.Sprintf("%T, %s", test.object, test.annotation), func(t *testing.T) {
			after, ok := test.object.DeepCopyObject().(client.Object)
			if !ok {
				t.Fatal("copy of another type")
			}
			after.SetAnnotations(map[string]string{test.annotation: "1"})
			if got := test.look.Update(event.UpdateEvent{ObjectOld: test.object, ObjectNew: after}); got != test.want {
				t.Errorf("%T, %s: looked at %t, want %t", test.object, test.annotation, got, test.want)
			}
		})
	}
}

// A new finalizer alone does not count as an observed generation: the conditions have to describe it.
func TestFinalizerAloneObservesNothing(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.faulty.refuse = func(what string, _ client.Object) error {
		if what != "patch" {
			return errFault
		}
		return nil
	}
	b.failingPass("crm")
	p := b.postback("crm")
	if len(p.Finalizers) != 1 || p.Status.ObservedGeneration != -1 || len(p.Status.Conditions) != 0 {
		t.Errorf("finalizers %v, observedGeneration %d, conditions %s", p.Finalizers, p.Status.ObservedGeneration, describe(p.Status.Conditions))
	}
	b.faulty.refuse = nil
	b.settle("crm")
	p = b.postback("crm")
	if p.Status.ObservedGeneration != p.Generation || !strings.Contains(describe(p.Status.Conditions), v1alpha1.NoDispatcherReason) {
		t.Errorf("observedGeneration %d, conditions %s", p.Status.ObservedGeneration, describe(p.Status.Conditions))
	}
}

// The requeue for a past or far time is neither too early nor absent.
func TestWaitsAreBounded(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		at   time.Time
		want time.Duration
	}{
		"past":           {now.Add(-time.Hour), minRequeue},
		"now":            {now, minRequeue},
		"just ahead":     {now.Add(time.Millisecond), minRequeue},
		"ahead":          {now.Add(time.Minute), time.Minute},
		"far":            {now.Add(10000 * time.Hour), maxRequeue},
		"no time at all": {time.Time{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := requeue{now: now}
			a.at(tt.at)
			if got := a.result().RequeueAfter; got != tt.want {
				t.Errorf("looks again after %s, want %s", got, tt.want)
			}
		})
	}
	a := requeue{now: now}
	a.in(time.Minute)
	a.at(metav1.NewTime(now.Add(time.Hour)).Time)
	if got := a.result().RequeueAfter; got != time.Minute {
		t.Errorf("a later time replaced the earlier one: %s", got)
	}
}
