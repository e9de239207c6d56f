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

// Package doors has fixtures that the tests of package accept and of the HTTP doors share.
package doors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

// Client returns a client for the kinds of Kubernetes and the operator.
func Client(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	c, err := controlplane.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Namespace creates a namespace whose name begins with a prefix.
func Namespace(t *testing.T, c client.Client, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// Deliveries returns the PostbackDeliveries of a namespace.
func Deliveries(t *testing.T, c client.Client, namespace string) []v1alpha1.PostbackDelivery {
	t.Helper()
	var list v1alpha1.PostbackDeliveryList
	if err := c.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// PostbackRoute creates a Postback and returns its route. The Postback exists so that the garbage collector keeps its
// deliveries.
func PostbackRoute(t *testing.T, c client.Client, namespace, name string, triggers ...v1alpha1.Trigger) *route.Route {
	t.Helper()
	postback := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.PostbackSpec{URL: "https://example.com/", Triggers: triggers},
	}
	if err := c.Create(t.Context(), postback); err != nil {
		t.Fatal(err)
	}
	return LooseRoute(namespace, name, postback.UID, triggers...)
}

// LooseRoute returns a route without a Postback. An empty uid means a new one.
func LooseRoute(namespace, name string, uid types.UID, triggers ...v1alpha1.Trigger) *route.Route {
	if uid == "" {
		uid = uuid.NewUUID()
	}
	return &route.Route{
		Namespace: namespace, Name: name, UID: uid, Triggers: triggers,
		State: v1alpha1.PostbackEnabled, MaxPending: v1alpha1.DefaultMaxPending,
	}
}

// Index returns an index of routes.
func Index(routes ...*route.Route) *route.Index {
	x := route.NewIndex()
	for _, r := range routes {
		x.Set(r)
	}
	return x
}

// Backlog has the number of unfinished deliveries of each Postback.
type Backlog map[types.UID]int

// Full reports whether a Postback has reached its maximum of unfinished deliveries.
func (b Backlog) Full(r *route.Route) bool { return b[r.UID] >= int(r.MaxPending) }

// Offers records the names of the deliveries that are offered for a first attempt.
type Offers struct {
	mu    sync.Mutex
	names []string
}

// Admit implements intake.FirstAttempts.
func (o *Offers) Admit(*route.Route) func(*v1alpha1.PostbackDelivery) {
	return func(d *v1alpha1.PostbackDelivery) {
		if d == nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.names = append(o.names, d.Name)
	}
}

// Sorted returns the recorded names, sorted.
func (o *Offers) Sorted() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(slices.Values(o.names))
}

// Store is an intake.API for tests that do not depend on the API server. Without functions, Create succeeds and Get
// returns an empty object.
type Store struct {
	OnCreate, OnGet func(ctx context.Context, d *v1alpha1.PostbackDelivery) error
}

// Create implements intake.API.
func (s Store) Create(ctx context.Context, object client.Object, _ ...client.CreateOption) error {
	return call(ctx, s.OnCreate, object)
}

// Get implements intake.API.
func (s Store) Get(ctx context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return call(ctx, s.OnGet, object)
}

func call(ctx context.Context, f func(context.Context, *v1alpha1.PostbackDelivery) error, object client.Object) error {
	d, ok := object.(*v1alpha1.PostbackDelivery)
	if f == nil || !ok {
		return nil
	}
	return f(ctx, d)
}

// Numbered returns the body of a request with events evt_0, evt_1 and so on.
func Numbered(events int) string {
	bodies := make([]string, events)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"id":"evt_%d","event":"lead.created","data":{"n":%d}}`, i, i)
	}
	return "[" + strings.Join(bodies, ",") + "]"
}

// ManyRoutes returns routes of as many Postbacks, each with every trigger.
func ManyRoutes(n int) []*route.Route {
	routes := make([]*route.Route, n)
	for i := range routes {
		routes[i] = LooseRoute("acme", fmt.Sprintf("p%05d", i), "", "*")
	}
	return routes
}
