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

package logapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	clocktesting "k8s.io/utils/clock/testing"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

var testNow = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

func testOptions() Options {
	return Options{Clock: clocktesting.NewFakePassiveClock(testNow), Log: logr.Discard()}
}

// readTimeout is the timeout of requests at the test server.
const readTimeout = 100 * time.Millisecond

// testServer serves the delivery log on loopback.
func testServer(t *testing.T, o Options) *httptest.Server {
	t.Helper()
	door := New(o)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !door.Serve(w, r) {
			http.NotFound(w, r)
		}
	}))
	server.Config.ReadTimeout = readTimeout
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// reply is a response as a reader gets it.
type reply struct {
	code   int
	header http.Header
	raw    string

	Type, Title, Detail, Instance string
}

func readReply(t *testing.T, response *http.Response) *reply {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	got := &reply{code: response.StatusCode, header: response.Header, raw: string(body)}
	if response.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(body, got); err != nil {
			t.Errorf("status %d, not JSON: %v: %s", response.StatusCode, err, body)
		}
	}
	return got
}

// post posts an event and returns the status code of the response.
func post(t *testing.T, url, namespace, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/namespaces/"+namespace+"/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
