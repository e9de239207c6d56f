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
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
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

// memoryLog is a delivery log in memory, oldest first, for tests that need no stream.
type memoryLog struct {
	deliveries []*v1alpha1.PostbackDelivery
	err        error
	// acts has the acts of users on waiting deliveries; act is the answer to each.
	acts   []deliverylog.Act
	act    func(deliverylog.Act) (deliverylog.Done, error)
	follow chan *v1alpha1.PostbackDelivery

	mu sync.Mutex
	// asked is the latest query. Watches call Follow concurrently.
	asked deliverylog.Query
}

func (l *memoryLog) ask(q deliverylog.Query) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = q
}

// query returns the latest query.
func (l *memoryLog) query() deliverylog.Query {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *memoryLog) List(_ context.Context, q deliverylog.Query, before uint64, limit int) (deliverylog.Page, error) {
	l.ask(q)
	end := len(l.deliveries)
	if before > 0 {
		end = int(before) - 1
	}
	begin := max(end-limit, 0)
	p := deliverylog.Page{Deliveries: slices.Clone(l.deliveries[begin:end]), Newest: uint64(len(l.deliveries))}
	slices.Reverse(p.Deliveries)
	if begin > 0 {
		p.Before = uint64(begin) + 1
	}
	return p, l.err
}

func (l *memoryLog) Get(_ context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error) {
	for _, d := range l.deliveries {
		if d.Namespace == namespace && d.Name == name {
			return d.DeepCopy(), l.err
		}
	}
	return nil, l.err
}

func (l *memoryLog) Act(_ context.Context, a deliverylog.Act) (deliverylog.Done, error) {
	l.acts = append(l.acts, a)
	return l.act(a)
}

func (l *memoryLog) Newest(context.Context) (uint64, error) { return uint64(len(l.deliveries)), l.err }

func (l *memoryLog) Follow(ctx context.Context, q deliverylog.Query, after uint64, tell func(uint64, *v1alpha1.PostbackDelivery) error) error {
	l.ask(q)
	for {
		select {
		case d, ok := <-l.follow:
			if !ok {
				return errors.New("the server is gone")
			}
			after++
			if err := tell(after, d); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logged returns a delivery as an entry of the delivery log.
func logged(t *testing.T, r *route.Route, id string) *v1alpha1.PostbackDelivery {
	t.Helper()
	d, err := delivery.New(r.Namespace, v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, "", &event.Event{
		ID: id, Type: "lead.created", CreatedAt: testNow, Data: []byte(`{"a":1.50}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.CreationTimestamp, d.ResourceVersion = metav1.NewTime(testNow), "7"
	at := metav1.NewMicroTime(testNow.Truncate(time.Microsecond))
	delivery.Apply(d, r, v1alpha1.Attempt{Time: at, Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](204)}, delivery.Request{})
	return d
}

// rightsOf maps each valid token, which is also its user's name, to the user's rights.
type rightsOf map[string][]string

func (a rightsOf) Allow(_ context.Context, token string, right rbacreview.Right) (string, error) {
	rights, ok := a[token]
	switch {
	case token == "down":
		return "", errors.New("connection refused")
	case !ok:
		return "", &access.UnauthenticatedError{Detail: "Unknown."}
	case !slices.Contains(rights, right.String()):
		return "", &access.ForbiddenError{User: token, Right: right}
	}
	return token, nil
}

// AllowCertificate authenticates a client certificate as the user of its common name.
func (a rightsOf) AllowCertificate(ctx context.Context, r *http.Request, right rbacreview.Right) (string, error) {
	return a.Allow(ctx, r.TLS.PeerCertificates[0].Subject.CommonName, right)
}

func right(verb, where string) string { return verb + " postbackdeliveries.postback.dev in " + where }

func ask(t *testing.T, method, url, token string) *reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return readReply(t, response)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &reply{code: response.StatusCode, header: response.Header, raw: string(body)}
}
