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
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

var testNow = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := scheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func testClient(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: testScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testNamespace(t *testing.T, c client.Client) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "ingest-"}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// postbackRoute makes a Postback, so that the garbage collector leaves its deliveries alone, and returns its route.
func postbackRoute(t *testing.T, c client.Client, namespace, name string, triggers ...v1alpha1.Trigger) *route.Route {
	t.Helper()
	postback := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.PostbackSpec{URL: "https://example.com/", Triggers: triggers},
	}
	if err := c.Create(t.Context(), postback); err != nil {
		t.Fatal(err)
	}
	return looseRoute(namespace, name, postback.UID, triggers...)
}

func looseRoute(namespace, name string, uid types.UID, triggers ...v1alpha1.Trigger) *route.Route {
	if uid == "" {
		uid = uuid.NewUUID()
	}
	return &route.Route{
		Namespace: namespace, Name: name, UID: uid, Triggers: triggers,
		State: v1alpha1.PostbackEnabled, MaxPending: v1alpha1.DefaultMaxPending,
	}
}

type backlog map[types.UID]int

func (b backlog) Full(r *route.Route) bool { return b[r.UID] >= int(r.MaxPending) }

// offers keeps what is offered.
type offers struct {
	mu    sync.Mutex
	names []string
}

func (o *offers) Reserve(*route.Route) func(*v1alpha1.PostbackDelivery) {
	return func(d *v1alpha1.PostbackDelivery) {
		if d == nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.names = append(o.names, d.Name)
	}
}

func (o *offers) sorted() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(slices.Values(o.names))
}

// fakeStore stands in for the API server where the answer must not depend on it.
type fakeStore struct {
	create func(ctx context.Context, d *v1alpha1.PostbackDelivery) error
	get    func(ctx context.Context, d *v1alpha1.PostbackDelivery) error
}

func (f fakeStore) Create(ctx context.Context, object client.Object, _ ...client.CreateOption) error {
	if f.create == nil {
		return nil
	}
	return f.create(ctx, object.(*v1alpha1.PostbackDelivery))
}

func (f fakeStore) Get(ctx context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return f.get(ctx, object.(*v1alpha1.PostbackDelivery))
}

func index(routes ...*route.Route) *route.Index {
	x := route.NewIndex()
	for _, r := range routes {
		x.Set(r)
	}
	return x
}

// setup holds the options of a server and of its acceptor. Clock and Log are those of the server.
type setup struct {
	Options
	acceptance      accept.Options
	withoutAcceptor bool
}

func (o *setup) server(t *testing.T) *Server {
	t.Helper()
	o.acceptance.Clock, o.acceptance.Log = o.Clock, o.Log
	acceptor, err := accept.New(o.acceptance)
	if err != nil {
		t.Fatal(err)
	}
	if !o.withoutAcceptor {
		o.Acceptor = acceptor
	}
	return New(o.Options)
}

func testOptions(store intake.Store, routes ...*route.Route) (setup, *offers) {
	o := &offers{}
	return setup{
		Options: Options{Clock: clocktesting.NewFakePassiveClock(testNow), Log: logr.Discard()},
		acceptance: accept.Options{
			Intake: &intake.Kubernetes{API: store, FirstAttempts: o}, Routes: index(routes...), Backlog: backlog{}, Remember: true,
		},
	}, o
}

// testServer serves the handler on loopback with the server's own timeouts.
func testServer(t *testing.T, o setup) *httptest.Server {
	t.Helper()
	s := o.server(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config = s.httpServer(context.Background())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// reply is an answer as a producer reads it; the fields of both kinds of answer.
type reply struct {
	code   int
	header http.Header
	raw    string

	Type, Title, Detail, Instance string
	Status                        int
	Pointer                       *string
	Events                        []accept.EventResult
}

func (r *reply) results() [][]accept.DeliveryResult {
	var all [][]accept.DeliveryResult
	for _, e := range r.Events {
		all = append(all, e.Deliveries)
	}
	return all
}

// do may be called by any goroutine of a test.
func do(t *testing.T, request *http.Request) *reply {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return &reply{}
	}
	defer response.Body.Close()
	return readReply(t, response)
}

func readReply(t *testing.T, response *http.Response) *reply {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	got := &reply{code: response.StatusCode, header: response.Header, raw: string(body)}
	if request := response.Request; len(body) > 0 && (request == nil || request.Method != http.MethodHead) {
		if err := json.Unmarshal(body, got); err != nil {
			t.Errorf("status %d, not JSON: %v: %s", response.StatusCode, err, body)
		}
	}
	return got
}

func newPost(t *testing.T, url, namespace string, body []byte) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/namespaces/"+namespace+"/events", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return nil
	}
	request.Header.Set("Content-Type", "application/json")
	return request
}

func post(t *testing.T, url, namespace, body string) *reply {
	t.Helper()
	return do(t, newPost(t, url, namespace, []byte(body)))
}

func deliveries(t *testing.T, c client.Client, namespace string) []v1alpha1.PostbackDelivery {
	t.Helper()
	var list v1alpha1.PostbackDeliveryList
	if err := c.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}
