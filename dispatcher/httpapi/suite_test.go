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
	"testing"
	"time"

	"github.com/go-logr/logr"
	clocktesting "k8s.io/utils/clock/testing"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
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
