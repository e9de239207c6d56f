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
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

// limitedClient returns a client whose only rights are the RBAC markers of this package.
func limitedClient(t *testing.T, admin client.Client) client.Client {
	t.Helper()
	namespace := doors.Namespace(t, admin, "ingest-")
	name := "ingest-" + namespace
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}},
		&rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"postback.dev"}, Resources: []string{"postbackdeliveries"}, Verbs: []string{"get", "create"}}},
		},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}},
		},
	} {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	config, err := cp.ServiceAccountConfig(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return doors.Client(t, config)
}

func nameOf(r *route.Route, id string) string {
	return delivery.Name(v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, id)
}

func expect(t *testing.T, got *reply, code int, want ...[]accept.DeliveryResult) {
	t.Helper()
	if got.code != code || !reflect.DeepEqual(got.results(), want) {
		t.Errorf("got %d %+v, want %d %+v: %s", got.code, got.results(), code, want, got.raw)
	}
}

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
	got := post(t, testServer(t, options).URL, "acme", `{"id":"a","event":"lead.created","data":{}}`)
	if want := `{"events":[{"id":"a","event":"lead.created","deliveries":[]}]}` + "\n"; got.code != http.StatusAccepted || got.raw != want {
		t.Errorf("got %d %s, want %s", got.code, got.raw, want)
	}
}

func TestSendingAgain(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(limitedClient(t, c), crm)
	server := testServer(t, options)
	first := []string{
		`{"id":"timed","event":"x","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`,
		`{"id":"untimed","event":"x","data":{"a":1}}`,
	}
	for _, body := range first {
		if got := post(t, server.URL, namespace, body); got.Events[0].Deliveries[0].Result != intake.Stored {
			t.Fatalf("got %d: %s", got.code, got.raw)
		}
	}
	later := options
	later.Clock = nil // The real time differs from that of the first server.
	server = testServer(t, later)
	tests := map[string]struct {
		body string
		want intake.Result
	}{
		"timed, same":          {first[0], intake.Duplicate},
		"timed, other zone":    {`{"id":"timed","event":"x","createdAt":"2026-01-01T01:00:00+01:00","data":{"a":1}}`, intake.Duplicate},
		"timed, without":       {`{"id":"timed","event":"x","data":{"a":1}}`, intake.Duplicate},
		"timed, other time":    {`{"id":"timed","event":"x","createdAt":"2026-01-01T00:00:01Z","data":{"a":1}}`, intake.Conflict},
		"untimed, same":        {first[1], intake.Duplicate},
		"untimed, with a time": {`{"id":"untimed","event":"x","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`, intake.Conflict},
		"other type":           {`{"id":"timed","event":"y","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`, intake.Conflict},
		"other data":           {`{"id":"timed","event":"x","createdAt":"2026-01-01T00:00:00Z","data":{"a":2}}`, intake.Conflict},
		"other white space":    {`{"id":"timed","event":"x","createdAt":"2026-01-01T00:00:00Z","data":{"a": 1}}`, intake.Conflict},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := post(t, server.URL, namespace, tt.body)
			code, kind := http.StatusAccepted, ""
			if tt.want == intake.Conflict {
				code, kind = http.StatusConflict, "urn:postback:problem:id-conflict"
			}
			expect(t, got, code, []accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, got.Events[0].ID), Result: tt.want}})
			if got.Type != kind {
				t.Errorf("got problem %q, want %q", got.Type, kind)
			}
		})
	}
	if n := len(offered.Sorted()); n != 2 {
		t.Errorf("%d offers, want 2: what is sent again must not be attempted again", n)
	}
}

func TestBatchWithAConflict(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm, late := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.PostbackRoute(t, c, namespace, "late", "y")
	options, _ := testOptions(c, crm, late)
	server := testServer(t, options)
	post(t, server.URL, namespace, `{"id":"a","event":"x","data":{}}`)
	got := post(t, server.URL, namespace, `[{"id":"b","event":"x","data":{}},{"id":"a","event":"y","data":{}},{"id":"b","event":"x","data":{}}]`)
	b := []intake.Result{got.Events[0].Deliveries[0].Result, got.Events[2].Deliveries[0].Result}
	slices.Sort(b)
	if got.code != http.StatusConflict || !slices.Equal(b, []intake.Result{intake.Duplicate, intake.Stored}) {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	want := []accept.DeliveryResult{
		{Postback: "crm", Delivery: nameOf(crm, "a"), Result: intake.Conflict},
		{Postback: "late", Delivery: nameOf(late, "a"), Result: intake.Stored},
	}
	if !reflect.DeepEqual(got.Events[1].Deliveries, want) {
		t.Errorf("got %+v, want %+v", got.Events[1].Deliveries, want)
	}
	for _, d := range doors.Deliveries(t, c, namespace) {
		if d.Name == nameOf(crm, "a") && d.Spec.Event.Type != "x" {
			t.Errorf("the first event was replaced: %s", d.Spec.Body)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	options, _ := testOptions(c, doors.PostbackRoute(t, c, namespace, "crm", "*"))
	server := testServer(t, options)
	send := func(key, body string) *reply {
		request := newPost(t, server.URL, namespace, []byte(body))
		request.Header.Set("Idempotency-Key", key)
		return do(t, request)
	}
	const body = `[{"event":"x","data":{}},{"event":"x","data":{}},{"id":"own","event":"x","data":{}}]`
	first, again := send("k1", body), send("k1", body)
	for i, e := range first.Events {
		if e.Deliveries[0].Result != intake.Stored || again.Events[i].ID != e.ID || again.Events[i].Deliveries[0].Result != intake.Duplicate {
			t.Errorf("event %d: first %+v, again %+v", i, e, again.Events[i])
		}
	}
	if first.Events[0].ID == first.Events[1].ID || first.Events[2].ID != "own" {
		t.Errorf("got ids %s", first.raw)
	}
	if other := send("k2", body); other.Events[0].ID == first.Events[0].ID {
		t.Errorf("two keys give one id: %s", other.raw)
	}
	if got := send("k1", `{"event":"x","data":{"another":true}}`); got.code != http.StatusConflict {
		t.Errorf("the key of another request: got %d: %s", got.code, got.raw)
	}
}

func TestQuotaExceeded(t *testing.T) {
	g := gomega.NewWithT(t)
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(c, crm)
	server := testServer(t, options)
	expect(t, post(t, server.URL, namespace, `{"id":"a","event":"x","data":{}}`), http.StatusAccepted,
		[]accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "a"), Result: intake.Stored}})
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
	probe, err := delivery.New(namespace, v1alpha1.PostbackReference{Name: crm.Name, UID: crm.UID}, v1alpha1.FormatJSON, &event.Event{ID: "p", Type: "x", Data: []byte(`{}`), CreatedAt: testNow})
	if err != nil {
		t.Fatal(err)
	}
	g.Eventually(func() bool {
		err := c.Create(t.Context(), probe.DeepCopy(), client.DryRunAll)
		return err != nil && intake.OutcomeOf(err).Reason == intake.QuotaExceeded
	}, "1m", "50ms").Should(gomega.BeTrue(), "the quota is not in force")
	got := post(t, server.URL, namespace, `{"id":"b","event":"x","data":{}}`)
	expect(t, got, http.StatusTooManyRequests, []accept.DeliveryResult{{
		Postback: "crm", Result: intake.Refused, Reason: intake.QuotaExceeded,
		Message: "exceeded quota: deliveries, requested: count/postbackdeliveries.postback.dev=1, used: count/postbackdeliveries.postback.dev=1, limited: count/postbackdeliveries.postback.dev=1",
	}})
	if got.header.Get("Retry-After") != "30" || got.Type != "urn:postback:problem:no-room" {
		t.Errorf("got Retry-After %q: %s", got.header.Get("Retry-After"), got.raw)
	}
	// Duplicates do not count towards the bound, so the request is accepted.
	got = post(t, server.URL, namespace, `[{"id":"a","event":"x","data":{}},{"id":"b","event":"x","data":{}}]`)
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

func TestSameIDFromManyProducers(t *testing.T) {
	const producers = 20
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(c, crm)
	options.Clock = nil
	server := testServer(t, options)
	var all sync.WaitGroup
	replies := make(chan *reply, producers)
	for range producers {
		all.Go(func() { replies <- post(t, server.URL, namespace, `{"id":"one","event":"x","data":{"a":1}}`) })
	}
	all.Wait()
	close(replies)
	counts := map[intake.Result]int{}
	for got := range replies {
		for _, d := range slices.Concat(got.results()...) {
			counts[d.Result]++
		}
	}
	if counts[intake.Stored] != 1 || counts[intake.Duplicate] != producers-1 || len(offered.Sorted()) != 1 {
		t.Errorf("got %v and %d offers", counts, len(offered.Sorted()))
	}
	if n := len(doors.Deliveries(t, c, namespace)); n != 1 {
		t.Errorf("%d deliveries", n)
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
	options, _ := testOptions(store, manyRoutes(101)...)
	got := post(t, testServer(t, options).URL, "acme", numbered(100))
	if got.code != http.StatusRequestEntityTooLarge || got.Type != "urn:postback:problem:too-many-deliveries" || !strings.Contains(got.Detail, "its first 99 events") || creates.Load() > 0 {
		t.Errorf("%d creates; got %d: %s", creates.Load(), got.code, got.raw)
	}
}

func numbered(events int) string {
	bodies := make([]string, events)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"id":"evt_%d","event":"x","data":{"n":%d}}`, i, i)
	}
	return "[" + strings.Join(bodies, ",") + "]"
}

func manyRoutes(n int) []*route.Route {
	routes := make([]*route.Route, n)
	for i := range routes {
		routes[i] = doors.LooseRoute("acme", fmt.Sprintf("p%05d", i), "", "*")
	}
	return routes
}
