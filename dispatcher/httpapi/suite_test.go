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
	"reflect"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/doors"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

var testNow = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

// setup has the options of a server and its Acceptor. They share Clock and Log.
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

func testOptions(store intake.API, routes ...*route.Route) (setup, *doors.Offers) {
	o := &doors.Offers{}
	return setup{
		Options: Options{Clock: clocktesting.NewFakePassiveClock(testNow), Log: logr.Discard()},
		acceptance: accept.Options{
			Intake: &intake.Kubernetes{API: store, FirstAttempts: o}, Routes: doors.Index(routes...), Backlog: doors.Backlog{}, Remember: true,
		},
	}, o
}

// testServer serves the handler on loopback, with the timeouts of the real server.
func testServer(t *testing.T, o setup) *httptest.Server {
	t.Helper()
	s := o.server(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config = s.httpServer(context.Background())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// reply is a response as a producer reads it, with the fields of both an acceptance and a problem.
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

// do sends a request. Any goroutine of a test may call it.
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
