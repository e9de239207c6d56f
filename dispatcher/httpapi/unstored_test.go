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
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

func TestAPIServerDown(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm, bi := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.PostbackRoute(t, c, namespace, "bi", "*")
	options, _ := testOptions(c, crm, bi)
	options.requestTimeout = 2 * time.Second
	server := testServer(t, options)
	if err := cp.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	got := post(t, server.URL, namespace, `[{"event":"lead.created","data":{"n":1}},{"id":"own","event":"lead.created","data":{}}]`)
	if err := cp.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	if got.code != http.StatusServiceUnavailable || got.Type != "urn:postback:problem:not-stored" || got.header.Get("Retry-After") != "5" || len(got.Events) != 2 {
		t.Fatalf("got %d, Retry-After %q: %s", got.code, got.header.Get("Retry-After"), got.raw)
	}
	for _, d := range slices.Concat(got.results()...) {
		if d.Result != intake.Unstored {
			t.Errorf("got %+v", d)
		}
	}
	if strings.Contains(got.raw, "127.0.0.1") || strings.Contains(got.raw, "refused") {
		t.Errorf("the answer tells internals: %s", got.raw)
	}
	// The ids are those of the answer, as its detail demands.
	again := fmt.Sprintf(`[{"id":%q,"event":"lead.created","data":{"n":1}},{"id":"own","event":"lead.created","data":{}}]`, got.Events[0].ID)
	if got = post(t, server.URL, namespace, again); got.code != http.StatusAccepted {
		t.Fatalf("sent again: got %d: %s", got.code, got.raw)
	}
	if n := len(doors.Deliveries(t, c, namespace)); n != 4 {
		t.Errorf("%d deliveries, want one for each event and Postback", n)
	}
}

// lossy stores each delivery, but loses the API server's response to every second one.
type lossy struct {
	client.Client
	mu    sync.Mutex
	count int
}

func (l *lossy) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	err := l.Client.Create(ctx, object, options...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if l.count%2 == 1 && err == nil {
		return errors.New("http2: connection lost")
	}
	return err
}

func TestAnswerOfTheAPIServerLost(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	options, _ := testOptions(&lossy{Client: c}, doors.PostbackRoute(t, c, namespace, "crm", "*"))
	server := testServer(t, options)
	const body = `[{"id":"evt_1","event":"lead.created","data":{}},{"id":"evt_2","event":"lead.created","data":{}},{"id":"evt_3","event":"lead.created","data":{}}]`
	if got := post(t, server.URL, namespace, body); got.code != http.StatusServiceUnavailable {
		t.Fatalf("got %d: %s", got.code, got.raw)
	}
	got := post(t, server.URL, namespace, body)
	if got.code != http.StatusAccepted || len(doors.Deliveries(t, c, namespace)) != 3 {
		t.Errorf("sent again: got %d: %s", got.code, got.raw)
	}
}

func TestSlowAPIServer(t *testing.T) {
	store := doors.Store{OnCreate: func(ctx context.Context, _ *v1alpha1.PostbackDelivery) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
	options.requestTimeout = 100 * time.Millisecond
	options.acceptance.RequestStores = 2
	got := post(t, testServer(t, options).URL, "acme", "["+strings.Repeat(simple+",", 99)+simple+"]")
	if got.code != http.StatusServiceUnavailable || len(got.Events) != 100 {
		t.Fatalf("got %d: %s", got.code, got.raw)
	}
	for _, e := range got.Events {
		if len(e.ID) != 29 || e.Deliveries[0].Result != intake.Unstored || e.Deliveries[0].Postback != "crm" {
			t.Fatalf("got %+v", e)
		}
	}
}

// A temporary or unknown error gives Unstored.
func TestErrorsOfTheAPIServer(t *testing.T) {
	resource := v1alpha1.GroupVersion.WithResource("postbackdeliveries").GroupResource()
	exists := apierrors.NewAlreadyExists(resource, "x")
	tests := map[string]struct {
		create, get error
		want        intake.Result
		reason      intake.Reason
		message     string
	}{
		"no rights": {
			create: apierrors.NewForbidden(resource, "", errors.New(`User "x" cannot create it`)), want: intake.Unstored, reason: intake.Forbidden,
			message: `postbackdeliveries.postback.dev is forbidden: User "x" cannot create it`,
		},
		"plugin that is not ready": {create: apierrors.NewForbidden(resource, "x", errors.New("not yet ready to handle request")), want: intake.Unstored},
		"webhook out of reach":     {create: apierrors.NewInternalError(errors.New(`failed calling webhook "x"`)), want: intake.Unstored},
		"kind not installed":       {create: apierrors.NewNotFound(resource, "x"), want: intake.Unstored},
		"invalid":                  {create: apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("PostbackDelivery").GroupKind(), "x", nil), want: intake.Refused, reason: intake.Invalid},
		"exists and is gone":       {create: exists, get: apierrors.NewNotFound(resource, "x"), want: intake.Unstored},
		"exists and is unreadable": {create: exists, get: apierrors.NewInternalError(errors.New("x")), want: intake.Unstored},
		"too large for etcd":       {create: errors.New("etcdserver: request is too large"), want: intake.Refused, reason: intake.TooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			store := doors.Store{
				OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error { return tt.create },
				OnGet:    func(context.Context, *v1alpha1.PostbackDelivery) error { return tt.get },
			}
			options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
			got := post(t, testServer(t, options).URL, "acme", simple)
			code := http.StatusServiceUnavailable
			switch tt.reason {
			case intake.TooLarge:
				code = http.StatusRequestEntityTooLarge
			case intake.Invalid:
				code = http.StatusUnprocessableEntity
			default:
			}
			expect(t, got, code, []accept.DeliveryResult{{Postback: "crm", Result: tt.want, Reason: tt.reason, Message: tt.message}})
		})
	}
}

// A panic while one delivery is stored answers 503 for it. The process and the other deliveries are unaffected.
func TestPanicWhileStoring(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm, warehouse := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.PostbackRoute(t, c, namespace, "warehouse", "*")
	options, _ := testOptions(c, crm, warehouse)
	options.acceptance.Backlog = panicking{crm.UID}
	got := post(t, testServer(t, options).URL, namespace, `{"id":"evt_1","event":"lead.created","data":{}}`)
	expect(t, got, http.StatusServiceUnavailable, []accept.DeliveryResult{
		{Postback: "crm", Result: intake.Unstored},
		{Postback: "warehouse", Delivery: nameOf(warehouse, "evt_1"), Result: intake.Stored},
	})
}

// panicking is a backlog that panics for one Postback.
type panicking struct{ postback types.UID }

func (p panicking) Full(r *route.Route) bool {
	if r.UID == p.postback {
		panic("a fault")
	}
	return false
}
