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
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/test/doors"
)

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

func TestWhoMayReadTheLog(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	options := testOptions()
	options.Reader = &memoryLog{deliveries: []*v1alpha1.PostbackDelivery{logged(t, crm, "evt_1")}}
	options.Waiting = &memoryLog{}
	options.Rights = rightsOf{
		"viewer": {right("list", "namespace acme"), right("get", "namespace acme")},
		"admin":  {right("list", "all namespaces")},
	}
	server := testServer(t, options)
	name := options.Reader.(*memoryLog).deliveries[0].Name
	for what, tt := range map[string]struct {
		method, path, token string
		code                int
		problem             string
	}{
		"list":                          {"GET", "/v1/namespaces/acme/deliveries", "viewer", 200, ""},
		"get":                           {"GET", "/v1/namespaces/acme/deliveries/" + name, "viewer", 200, ""},
		"all namespaces":                {"GET", "/v1/deliveries", "admin", 200, ""},
		"list of what waits":            {"GET", "/v1/namespaces/acme/waiting", "viewer", 200, ""},
		"what waits in all namespaces":  {"GET", "/v1/waiting", "admin", 200, ""},
		"what waits elsewhere":          {"GET", "/v1/namespaces/globex/waiting", "viewer", 403, "forbidden-log"},
		"what waits, by POST":           {"POST", "/v1/namespaces/acme/waiting", "viewer", 405, "method-not-allowed"},
		"drop":                          {"DELETE", "/v1/namespaces/acme/waiting/crm-x?sequence=4", "viewer", 403, "forbidden-log"},
		"drop all":                      {"DELETE", "/v1/namespaces/acme/waiting?postback=crm", "viewer", 403, "forbidden-log"},
		"drop all of all namespaces":    {"DELETE", "/v1/waiting?postback=crm", "admin", 405, "method-not-allowed"},
		"restore what waits":            {"POST", "/v1/namespaces/acme/waiting/crm-x/restore?sequence=4", "viewer", 403, "forbidden-log"},
		"drop by GET":                   {"GET", "/v1/namespaces/acme/waiting/crm-x", "viewer", 405, "method-not-allowed"},
		"what waits, by a wrong path":   {"GET", "/v1/namespaces/acme/waiting/x/y/z", "viewer", 404, "not-found"},
		"no token":                      {"GET", "/v1/namespaces/acme/deliveries", "", 401, "unauthenticated"},
		"a token of nobody":             {"GET", "/v1/namespaces/acme/deliveries", "x", 401, "unauthenticated"},
		"another namespace":             {"GET", "/v1/namespaces/globex/deliveries", "viewer", 403, "forbidden-log"},
		"all namespaces, for a tenant":  {"GET", "/v1/deliveries", "viewer", 403, "forbidden-log"},
		"watch":                         {"GET", "/v1/namespaces/acme/deliveries?watch=true", "viewer", 403, "forbidden-log"},
		"restore":                       {"POST", "/v1/namespaces/acme/deliveries/" + name + "/restore", "viewer", 403, "forbidden-log"},
		"nobody knows":                  {"GET", "/v1/namespaces/acme/deliveries", "down", 503, "access-unknown"},
		"no such delivery":              {"GET", "/v1/namespaces/acme/deliveries/crm-other", "viewer", 404, "no-delivery"},
		"a parameter that is none":      {"GET", "/v1/namespaces/acme/deliveries?evnet=x", "viewer", 400, "invalid-query"},
		"a time that is none":           {"GET", "/v1/namespaces/acme/deliveries?since=yesterday", "viewer", 400, "invalid-query"},
		"a Postback in all namespaces":  {"GET", "/v1/deliveries?postback=crm", "admin", 400, "invalid-query"},
		"a method that is none":         {"DELETE", "/v1/namespaces/acme/deliveries/" + name, "viewer", 405, "method-not-allowed"},
		"restore by GET":                {"GET", "/v1/namespaces/acme/deliveries/" + name + "/restore", "viewer", 405, "method-not-allowed"},
		"a path that is none":           {"GET", "/v1/namespaces/acme/deliveries/" + name + "/other", "viewer", 404, "not-found"},
		"one delivery of no namespace":  {"GET", "/v1/deliveries/" + name, "admin", 404, "not-found"},
		"a namespace with a wild card":  {"GET", "/v1/namespaces/*/deliveries", "viewer", 404, ""},
		"a number that is none":         {"GET", "/v1/namespaces/acme/deliveries?limit=-1", "viewer", 400, "invalid-query"},
		"a continue token of elsewhere": {"GET", "/v1/namespaces/acme/deliveries?continue=eyJ2", "viewer", 400, "invalid-query"},
	} {
		t.Run(what, func(t *testing.T) {
			got := ask(t, tt.method, server.URL+tt.path, tt.token)
			if got.code != tt.code || tt.problem != "" && got.Type != "urn:postback:problem:"+tt.problem {
				t.Errorf("%s: %d %s, want %d %s", what, got.code, got.raw, tt.code, tt.problem)
			}
		})
	}
}

func TestListTheLog(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	log := &memoryLog{}
	for i := range 5 {
		log.deliveries = append(log.deliveries, logged(t, crm, fmt.Sprintf("evt_%d", i)))
	}
	options := testOptions()
	options.Reader = log
	server := testServer(t, options)
	list := &v1alpha1.PostbackDeliveryList{}
	var ids []string
	for next := ""; ; {
		got := ask(t, "GET", server.URL+"/v1/namespaces/acme/deliveries?limit=2&postback=crm&event=lead.created&prefix=evt_&since=2026-01-01T00:00:00Z"+next, "")
		list = &v1alpha1.PostbackDeliveryList{}
		if err := json.Unmarshal([]byte(got.raw), list); err != nil || got.code != 200 || list.Kind != "PostbackDeliveryList" || list.ResourceVersion != "5" {
			t.Fatalf("got %s", got.raw)
		}
		for i := range list.Items {
			ids = append(ids, list.Items[i].Spec.Event.ID)
		}
		if list.Continue == "" {
			break
		}
		next = "&continue=" + list.Continue
	}
	if want := "evt_4 evt_3 evt_2 evt_1 evt_0"; strings.Join(ids, " ") != want {
		t.Errorf("got %v, want %s", ids, want)
	}
	want := deliverylog.Query{Namespace: "acme", Postback: "crm", EventType: "lead.created", Prefix: "evt_", Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if log.query() != want {
		t.Errorf("asked for %+v, want %+v", log.query(), want)
	}
	log.err = deliverylog.ErrUnavailable
	if got := ask(t, "GET", server.URL+"/v1/namespaces/acme/deliveries", ""); got.code != 503 || got.header.Get("Retry-After") != "1" || got.Instance == "" {
		t.Errorf("without its server: %d %s", got.code, got.raw)
	}
}

func TestWithoutALog(t *testing.T) {
	options := testOptions()
	server := testServer(t, options)
	if got := ask(t, "GET", server.URL+"/v1/namespaces/acme/deliveries", ""); got.code != 404 || got.Type != "urn:postback:problem:no-log" || !strings.Contains(got.Detail, "--intake=kubernetes") {
		t.Errorf("got %d %s", got.code, got.raw)
	}
}

// watchLine is a line of a watch.
type watchLine struct {
	Type   string
	Object struct {
		Title    string
		Kind     string
		Metadata struct {
			Name, ResourceVersion string
			Annotations           map[string]string
		}
	}
}

func watchLines(t *testing.T, url string) func() (watchLine, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the watch is answered %s", response.Status)
	}
	decoder := json.NewDecoder(bufio.NewReader(response.Body))
	return func() (w watchLine, err error) { return w, decoder.Decode(&w) }
}

func TestWatchTheLog(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	log := &memoryLog{follow: make(chan *v1alpha1.PostbackDelivery, 5000)}
	options := testOptions()
	options.Reader = log
	server := testServer(t, options)
	next := watchLines(t, server.URL+"/v1/namespaces/acme/deliveries?watch=true&resourceVersion=41&event=lead.created")
	if w, err := next(); err != nil || w.Type != "BOOKMARK" || w.Object.Metadata.ResourceVersion != "41" {
		t.Fatalf("it begins with %+v, %v", w, err)
	}
	<-time.After(3 * readTimeout) // A watch must outlive the timeout of other requests.
	d := logged(t, crm, "evt_1")
	log.follow <- d
	if w, err := next(); err != nil || w.Type != "ADDED" || w.Object.Metadata.Name != d.Name || w.Object.Kind != "PostbackDelivery" {
		t.Fatalf("got %+v, %v", w, err)
	}
	// Deliveries beyond the rate of a watch are omitted and counted.
	const many = 4000
	began := time.Now()
	for range many {
		log.follow <- d
	}
	added, leftOut, sequence := 0, 0, ""
	for sequence != fmt.Sprint(42+many) {
		w, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if w.Type != "BOOKMARK" {
			added++
			continue
		}
		sequence = w.Object.Metadata.ResourceVersion
		if value := w.Object.Metadata.Annotations[v1alpha1.LeftOutAnnotation]; value != "" {
			some, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			leftOut += some
		}
	}
	if most := watchedBurst + watchedPerSecond*time.Since(began).Seconds(); added+leftOut != many || float64(added) > most {
		t.Errorf("%d shown, %d left out, of %d; up to %g may be shown", added, leftOut, many, most)
	}
	close(log.follow)
	if w, err := next(); err != nil || w.Type != "ERROR" || w.Object.Title != "The delivery log cannot be read" {
		t.Errorf("without its server: %+v, %v", w, err)
	}
}

// The list of an empty log has resourceVersion 0. A watch from there includes deliveries logged before it began.
func TestWatchAnEmptyLogFromItsList(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	log := &memoryLog{deliveries: []*v1alpha1.PostbackDelivery{logged(t, crm, "evt_1")}}
	options := testOptions()
	options.Reader = log
	server := testServer(t, options)
	for version, want := range map[string]string{"&resourceVersion=0": "0", "": "1"} {
		next := watchLines(t, server.URL+"/v1/namespaces/acme/deliveries?watch=true"+version)
		if w, err := next(); err != nil || w.Object.Metadata.ResourceVersion != want {
			t.Errorf("%q begins with %+v, %v, want version %s", version, w, err, want)
		}
	}
}

// Watches delay neither the shutdown nor the events of producers.
func TestWatchesAreBounded(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	options := testOptions()
	options.Reader = &memoryLog{follow: make(chan *v1alpha1.PostbackDelivery)}
	door := New(options)
	door.watches = make(chan struct{}, 1)
	acceptor, err := accept.New(accept.Options{
		Intake: &intake.Kubernetes{API: doors.Store{}, FirstAttempts: &doors.Offers{}}, Routes: doors.Index(crm), Backlog: doors.Backlog{}, Log: logr.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.New(httpapi.Options{Address: "127.0.0.1:0", Acceptor: acceptor, LogDoor: door, Log: logr.Discard()})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	<-s.Listening()
	url := "http://" + s.Addr().String()
	next := watchLines(t, url+"/v1/namespaces/acme/deliveries?watch=true&resourceVersion=1")
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "GET", url+"/v1/namespaces/acme/deliveries?watch=true", ""); got.code != 429 || got.header.Get("Retry-After") != "10" {
		t.Errorf("one more watch: %d %s", got.code, got.raw)
	}
	if code := post(t, url, "acme", `{"event":"lead.created","data":{}}`); code != 202 {
		t.Errorf("an event: %d", code)
	}
	begin := time.Now()
	stop()
	if err := <-ended; err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("the server ends after %s with %v", time.Since(begin), err)
	}
}

func TestReadersHaveARateOfTheirOwn(t *testing.T) {
	options := testOptions()
	options.Reader = &memoryLog{}
	options.Rights = rightsOf{"viewer": {right("list", "namespace acme")}, "other": {right("list", "namespace acme")}}
	server := testServer(t, options)
	var refused atomic.Int32
	for range readBurst + 5 {
		if got := ask(t, "GET", server.URL+"/v1/namespaces/acme/deliveries", "viewer"); got.code == 429 && got.Type == "urn:postback:problem:rate-limited" && got.header.Get("Retry-After") == "1" {
			refused.Add(1)
		}
	}
	if refused.Load() != 5 {
		t.Errorf("%d are refused, want 5: the clock stands still", refused.Load())
	}
	if got := ask(t, "GET", server.URL+"/v1/namespaces/acme/deliveries", "other"); got.code != 200 {
		t.Errorf("another one: %d", got.code)
	}
}

// A restored delivery equals its entry, including the attempt, so it can be redelivered like any other.
func TestRestore(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "logapi-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	want := logged(t, crm, "evt_1")
	options := testOptions()
	options.Reader = &memoryLog{deliveries: []*v1alpha1.PostbackDelivery{want}}
	options.API, options.Recorder = c, &delivery.Recorder{Client: c}
	options.Rights = rightsOf{"jane": {right("patch", "namespace "+namespace)}}
	lines := make(chan string, 100)
	options.Log = funcr.New(func(prefix, args string) { lines <- prefix + args }, funcr.Options{})
	server := testServer(t, options)
	url := server.URL + "/v1/namespaces/" + namespace + "/deliveries/" + want.Name + "/restore"
	for i, code := range []int{201, 200, 200} {
		got := ask(t, "POST", url, "jane")
		restored := &v1alpha1.PostbackDelivery{}
		if err := json.Unmarshal([]byte(got.raw), restored); err != nil || got.code != code || restored.UID == "" || restored.Kind != "PostbackDelivery" {
			t.Fatalf("restore %d: %d %s", i, got.code, got.raw)
		}
	}
	all := doors.Deliveries(t, c, namespace)
	if len(all) != 1 {
		t.Fatalf("there are %d", len(all))
	}
	d := &all[0]
	if d.Name != want.Name || d.Spec != want.Spec && d.Spec.Body != want.Spec.Body || !metav1.IsControlledBy(d, &metav1.ObjectMeta{UID: crm.UID}) ||
		d.Labels[v1alpha1.PostbackLabel] != "crm" {
		t.Errorf("restored %+v, want %+v", d, want)
	}
	if d.Status.Phase != v1alpha1.DeliveryDelivered || d.Status.AttemptCount != 1 || len(d.Status.Attempts) != 1 ||
		*d.Status.Attempts[0].StatusCode != 204 || !d.Status.Attempts[0].Time.Time.Equal(want.Status.Attempts[0].Time.Time) ||
		!d.Status.CompletionTime.Time.Equal(want.Status.CompletionTime.Time) {
		t.Errorf("its status is %+v, want %+v", d.Status, want.Status)
	}
	server.Close()
	close(lines)
	audited := 0
	for line := range lines {
		if strings.Contains(line, `"audit"="DeliveryRestored"`) && strings.Contains(line, `"user"="jane"`) && strings.Contains(line, want.Name) {
			audited++
		}
	}
	if audited != 1 {
		t.Errorf("%d audit lines, want 1", audited)
	}
	if err := c.Delete(t.Context(), d, client.Preconditions{UID: &d.UID}); err != nil {
		t.Fatal(err)
	}
}

func TestRestoreWithoutTheAPIServer(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	want := logged(t, crm, "evt_1")
	options := testOptions()
	options.API = doors.Store{OnGet: func(context.Context, *v1alpha1.PostbackDelivery) error { return errors.New("connection refused") }}
	options.Reader = &memoryLog{deliveries: []*v1alpha1.PostbackDelivery{want}}
	server := testServer(t, options)
	got := ask(t, "POST", server.URL+"/v1/namespaces/acme/deliveries/"+want.Name+"/restore", "")
	if got.code != 503 || got.Type != "urn:postback:problem:not-restored" || got.header.Get("Retry-After") == "" || got.Instance == "" {
		t.Errorf("got %d %s", got.code, got.raw)
	}
}
