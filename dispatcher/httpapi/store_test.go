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

package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/test/doors"
)

func TestStoresADeliveryForEachMatch(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	zoo := doors.PostbackRoute(t, c, namespace, "zoo", "lead.created", "lead.*")
	all := doors.PostbackRoute(t, c, namespace, "all", "*")
	disabled := doors.PostbackRoute(t, c, namespace, "disabled", "lead.*")
	disabled.State = v1alpha1.PostbackDisabled
	paused := doors.PostbackRoute(t, c, namespace, "paused", "lead.*")
	paused.State = v1alpha1.PostbackPaused
	full := doors.PostbackRoute(t, c, namespace, "full", "*")
	full.MaxPending = 3
	sales := doors.PostbackRoute(t, c, namespace, "sales", "sale.*")
	elsewhere := doors.LooseRoute("elsewhere", "all", "", "*")

	options, offered := testOptions(limitedClient(t, c), zoo, all, disabled, paused, full, sales, elsewhere)
	options.acceptance.Backlog = doors.Backlog{full.UID: 3, all.UID: 3}
	server := testServer(t, options)
	got := post(t, server.URL, namespace, `[{"id":"evt_1","event":"lead.created","createdAt":"2025-02-03T10:35:57.926999+01:00","data":{"b":1, "a":[]}},{"event":"sale.created","data":{}}]`)
	if got.code != http.StatusAccepted || len(got.Events) != 2 || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d: %s", got.code, got.raw)
	}
	made := got.Events[1].ID
	if got.Events[0].ID != "evt_1" || got.Events[0].Event != "lead.created" || got.Events[1].Event != "sale.created" || len(made) != 29 {
		t.Errorf("got %s", got.raw)
	}
	expect(t, got, http.StatusAccepted, []accept.DeliveryResult{
		{Postback: "all", Delivery: nameOf(all, "evt_1"), Result: intake.Stored},
		{Postback: "disabled", Result: intake.Skipped, Reason: accept.Disabled},
		{Postback: "full", Result: intake.Refused, Reason: accept.BacklogFull},
		{Postback: "paused", Delivery: nameOf(paused, "evt_1"), Result: intake.Stored},
		{Postback: "zoo", Delivery: nameOf(zoo, "evt_1"), Result: intake.Stored},
	}, []accept.DeliveryResult{
		{Postback: "all", Delivery: nameOf(all, made), Result: intake.Stored},
		{Postback: "full", Result: intake.Refused, Reason: accept.BacklogFull},
		{Postback: "sales", Delivery: nameOf(sales, made), Result: intake.Stored},
	})

	bodies := map[string]string{}
	for _, d := range doors.Deliveries(t, c, namespace) {
		bodies[d.Name] = d.Spec.Body
		if d.Status.Phase != v1alpha1.DeliveryPending || d.ManagedFields[0].Manager != v1alpha1.DispatcherFieldOwner {
			t.Errorf("%s is %s, by %s", d.Name, d.Status.Phase, d.ManagedFields[0].Manager)
		}
	}
	lead := `{"id":"evt_1","event":"lead.created","createdAt":"2025-02-03T09:35:57.926Z","data":{"b":1, "a":[]}}`
	sale := `{"id":"` + made + `","event":"sale.created","createdAt":"2026-01-31T12:00:00.123Z","data":{}}`
	want := map[string]string{
		nameOf(all, "evt_1"): lead, nameOf(paused, "evt_1"): lead, nameOf(zoo, "evt_1"): lead,
		nameOf(all, made): sale, nameOf(sales, made): sale,
	}
	if !reflect.DeepEqual(bodies, want) {
		t.Errorf("stored %v, want %v", bodies, want)
	}
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(offered.Sorted(), names) {
		t.Errorf("offered %v, want %v", offered.Sorted(), names)
	}
}

func TestNoMatchIsAnEmptyList(t *testing.T) {
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "sale.*"))
	got := post(t, testServer(t, options).URL, "acme", `{"id":"evt_1","event":"lead.created","data":{}}`)
	if want := `{"events":[{"id":"evt_1","event":"lead.created","deliveries":[]}]}` + "\n"; got.code != http.StatusAccepted || got.raw != want {
		t.Errorf("got %d %s, want %s", got.code, got.raw, want)
	}
}

func TestQuotaExceeded(t *testing.T) {
	g := gomega.NewWithT(t)
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(c, crm)
	server := testServer(t, options)
	expect(t, post(t, server.URL, namespace, `{"id":"evt_stored","event":"lead.created","data":{}}`), http.StatusAccepted,
		[]accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "evt_stored"), Result: intake.Stored}})
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "deliveries"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/postbackdeliveries.postback.dev": resource.MustParse("1")}},
	}
	if err := c.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	// The test control plane has no quota controller, so the test sets the status from which admission counts.
	quota.Status.Hard = quota.Spec.Hard
	quota.Status.Used = corev1.ResourceList{"count/postbackdeliveries.postback.dev": resource.MustParse("1")}
	if err := c.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	probe, err := delivery.New(namespace, v1alpha1.PostbackReference{Name: crm.Name, UID: crm.UID}, v1alpha1.FormatJSON, &event.Event{ID: "probe", Type: "lead.created", Data: []byte(`{}`), CreatedAt: testNow})
	if err != nil {
		t.Fatal(err)
	}
	g.Eventually(func() bool {
		err := c.Create(t.Context(), probe.DeepCopy(), client.DryRunAll)
		return err != nil && intake.OutcomeOf(err).Reason == intake.QuotaExceeded
	}, "1m", "50ms").Should(gomega.BeTrue(), "the quota is not in force")
	got := post(t, server.URL, namespace, `{"id":"evt_over_quota","event":"lead.created","data":{}}`)
	expect(t, got, http.StatusTooManyRequests, []accept.DeliveryResult{{
		Postback: "crm", Result: intake.Refused, Reason: intake.QuotaExceeded,
		Message: "exceeded quota: deliveries, requested: count/postbackdeliveries.postback.dev=1, used: count/postbackdeliveries.postback.dev=1, limited: count/postbackdeliveries.postback.dev=1",
	}})
	if got.header.Get("Retry-After") != "30" || got.Type != "urn:postback:problem:no-room" {
		t.Errorf("got Retry-After %q: %s", got.header.Get("Retry-After"), got.raw)
	}
	// Duplicates do not count towards the bound, so the request is accepted.
	got = post(t, server.URL, namespace, `[{"id":"evt_stored","event":"lead.created","data":{}},{"id":"evt_over_quota","event":"lead.created","data":{}}]`)
	if got.code != http.StatusAccepted || got.Events[0].Deliveries[0].Result != intake.Duplicate || got.Events[1].Deliveries[0].Result != intake.Refused {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	if n := len(offered.Sorted()); n != 1 {
		t.Errorf("%d offers, want 1", n)
	}
}

func TestEveryBacklogFull(t *testing.T) {
	one, two := doors.LooseRoute("acme", "one", "", "*"), doors.LooseRoute("acme", "two", "", "*")
	off := doors.LooseRoute("acme", "off", "", "*")
	off.State = v1alpha1.PostbackDisabled
	options, _ := testOptions(doors.Store{}, one, two, off)
	options.acceptance.Backlog = doors.Backlog{one.UID: v1alpha1.DefaultMaxPending, two.UID: v1alpha1.DefaultMaxPending + 1}
	got := post(t, testServer(t, options).URL, "acme", simple)
	expect(t, got, http.StatusTooManyRequests, []accept.DeliveryResult{
		{Postback: "off", Result: intake.Skipped, Reason: accept.Disabled},
		{Postback: "one", Result: intake.Refused, Reason: accept.BacklogFull},
		{Postback: "two", Result: intake.Refused, Reason: accept.BacklogFull},
	})
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestNamespaceGoingOrGone(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm, gone := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.LooseRoute("never-was", "crm", "", "*")
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "held", Finalizers: []string{"test.postback.dev/hold"}}}
	if err := c.Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Patch(context.Background(), held, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))); err != nil {
			t.Error(err)
		}
	})
	if err := c.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	options, offered := testOptions(limitedClient(t, c), crm, gone)
	server := testServer(t, options)
	expect(t, post(t, server.URL, namespace, simple), http.StatusAccepted,
		[]accept.DeliveryResult{{Postback: "crm", Result: intake.Skipped, Reason: intake.NamespaceTerminating}})
	expect(t, post(t, server.URL, "never-was", simple), http.StatusAccepted,
		[]accept.DeliveryResult{{Postback: "crm", Result: intake.Skipped, Reason: intake.NamespaceNotFound}})
	if n := len(offered.Sorted()); n > 0 {
		t.Errorf("%d offers", n)
	}
}

// delaying is an intake that stores everything and asks to delay the answer.
type delaying time.Duration

func (h delaying) Store(context.Context, *intake.Delivery) intake.Outcome {
	return intake.Outcome{Result: intake.Stored, Delay: time.Duration(h)}
}

// An answer waits once, for the longest delay of its deliveries, and not for a client that has left.
func TestAnswerIsDelayed(t *testing.T) {
	const long = 50 * time.Millisecond
	options, _ := testOptions(nil, doors.LooseRoute("partner", "one", "", "*"), doors.LooseRoute("partner", "two", "", "*"))
	options.acceptance.Intake = delaying(long)
	server := testServer(t, options)
	before := time.Now()
	got := post(t, server.URL, "partner", `{"event":"lead.created","data":{}}`)
	if got.code != http.StatusAccepted || len(got.Events[0].Deliveries) != 2 {
		t.Fatalf("got %d: %s", got.code, got.raw)
	}
	if took := time.Since(before); took < long {
		t.Errorf("answered after %s", took)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	accept.Results{{Deliveries: []accept.DeliveryResult{{Delay: time.Hour}}}}.Wait(gone) // Must return at once.
}

func TestTooManyDeliveriesAreRefusedAtOnce(t *testing.T) {
	creates := &atomic.Int32{}
	store := doors.Store{OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error {
		creates.Add(1)
		return nil
	}}
	options, _ := testOptions(store, doors.ManyRoutes(101)...)
	got := post(t, testServer(t, options).URL, "acme", doors.Numbered(100))
	if got.code != http.StatusRequestEntityTooLarge || got.Type != "urn:postback:problem:too-many-deliveries" || !strings.Contains(got.Detail, "its first 99 events") || creates.Load() > 0 {
		t.Errorf("%d creates; got %d: %s", creates.Load(), got.code, got.raw)
	}
}
