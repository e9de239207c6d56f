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
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/decode"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
	"github.com/postback-dev/postback-operator/test/doors"
)

const (
	jsonType  = "application/json"
	eventsURL = "/v1/namespaces/acme/events"
	simple    = `{"event":"lead.created","data":{}}`
)

// padded returns an event of size bytes.
func padded(size int) string {
	const head, tail = `{"event":"lead.created","data":{"a":"`, `"}}`
	return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRefusedRequests(t *testing.T) {
	const limit = DefaultMaxBodyBytes
	tests := map[string]struct {
		method, path, body string
		header             http.Header
		chunked            bool
		code               int
		kind               string
		pointer            string
		answerHeader       [2]string
	}{
		"unknown path":           {path: "/", code: 404, kind: "not-found"},
		"path below":             {path: eventsURL + "/x", code: 404, kind: "not-found"},
		"trailing slash":         {path: eventsURL + "/", code: 404, kind: "not-found"},
		"dots":                   {path: "/v1/namespaces/acme/x/../events", code: 404, kind: "not-found"},
		"another version":        {path: "/v2/namespaces/acme/events", code: 404, kind: "not-found"},
		"health":                 {method: "GET", path: "/healthz", code: 404, kind: "not-found"},
		"GET":                    {method: "GET", path: eventsURL, code: 405, kind: "method-not-allowed", answerHeader: [2]string{"Allow", "POST"}},
		"PUT":                    {method: "PUT", path: eventsURL, code: 405, kind: "method-not-allowed", answerHeader: [2]string{"Allow", "POST"}},
		"OPTIONS":                {method: "OPTIONS", path: eventsURL, code: 405, kind: "method-not-allowed", answerHeader: [2]string{"Allow", "POST"}},
		"namespace upper case":   {path: "/v1/namespaces/Acme/events", code: 400, kind: "invalid-namespace"},
		"namespace empty":        {path: "/v1/namespaces//events", code: 400, kind: "invalid-namespace"},
		"namespace with a slash": {path: "/v1/namespaces/a%2Fb/events", code: 404, kind: "not-found"},
		"namespace too long":     {path: "/v1/namespaces/" + strings.Repeat("a", 64) + "/events", code: 400, kind: "invalid-namespace"},
		"namespace traversal":    {path: "/v1/namespaces/../events", code: 400, kind: "invalid-namespace"},
		"form":                   {header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, code: 415, kind: "unsupported-media-type", answerHeader: [2]string{"Accept-Post", decode.AcceptedTypes}},
		"no type":                {header: http.Header{}, code: 415, kind: "unsupported-media-type"},
		"two types":              {header: http.Header{"Content-Type": {jsonType, jsonType}}, code: 415, kind: "unsupported-media-type"},
		"malformed type":         {header: http.Header{"Content-Type": {"application/json; charset"}}, code: 415, kind: "unsupported-media-type"},
		"latin1":                 {header: http.Header{"Content-Type": {"application/json; charset=iso-8859-1"}}, code: 415, kind: "unsupported-media-type"},
		"gzip":                   {header: http.Header{"Content-Type": {jsonType}, "Content-Encoding": {"gzip"}}, body: gzipped(t, simple), code: 415, kind: "unsupported-content-encoding", answerHeader: [2]string{"Accept-Encoding", "identity"}},
		"gzip unsaid":            {body: gzipped(t, simple), code: 400, kind: "invalid-event"},
		"empty body":             {body: " ", code: 400, kind: "invalid-event"},
		"no body":                {code: 400, kind: "invalid-event"},
		"malformed JSON":         {body: `{"event":}`, code: 400, kind: "invalid-event", pointer: "/event"},
		"second is wrong":        {body: `[` + simple + `,{"event":"x","data":{"amount":1e400}}]`, code: 400, kind: "invalid-event", pointer: "/1/data/amount"},
		"depth bomb":             {body: `{"event":"x","data":{"a":` + strings.Repeat("[", 200_000), code: 400, kind: "invalid-event", pointer: "/data/a" + strings.Repeat("/0", 62)},
		"empty key":              {body: simple, header: http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {""}}, code: 400, kind: "invalid-idempotency-key"},
		"two keys":               {body: simple, header: http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {"a", "b"}}, code: 400, kind: "invalid-idempotency-key"},
		"long key":               {body: simple, header: http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {strings.Repeat("a", 256)}}, code: 400, kind: "invalid-idempotency-key"},
		"key in Cyrillic":        {body: simple, header: http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {"ключ"}}, code: 400, kind: "invalid-idempotency-key"},
		"one byte over":          {body: padded(limit + 1), code: 413, kind: "body-too-large"},
		"one byte over, chunked": {body: padded(limit + 1), chunked: true, code: 413, kind: "body-too-large"},
		"far over, chunked":      {body: padded(20 * limit), chunked: true, code: 413, kind: "body-too-large"},
	}
	options, offered := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	server := testServer(t, options)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(tt.body)
			if tt.chunked {
				body = io.MultiReader(body) // The client does not know the length of this type.
			}
			if tt.method == "" {
				tt.method = http.MethodPost
			}
			if tt.path == "" {
				tt.path = eventsURL
			}
			request, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = tt.header
			if tt.header == nil {
				request.Header = http.Header{"Content-Type": {jsonType}}
			}
			got := do(t, request)
			if got.code != tt.code || got.Status != tt.code || got.Type != "urn:postback:problem:"+tt.kind {
				t.Errorf("got %d %s, want %d %s: %s", got.code, got.Type, tt.code, tt.kind, got.raw)
			}
			if got.Title == "" || got.Detail == "" || got.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("not a whole problem document: %s %s", got.header.Get("Content-Type"), got.raw)
			}
			if (got.Pointer != nil) != (tt.kind == "invalid-event") || got.Pointer != nil && *got.Pointer != tt.pointer {
				t.Errorf("got pointer %v, want %q: %s", got.Pointer, tt.pointer, got.raw)
			}
			if name := tt.answerHeader[0]; name != "" && got.header.Get(name) != tt.answerHeader[1] {
				t.Errorf("got %s: %q, want %q", name, got.header.Get(name), tt.answerHeader[1])
			}
		})
	}
	if names := offered.Sorted(); len(names) > 0 {
		t.Errorf("refused requests left deliveries: %v", names)
	}
}

// A request for an unwatched namespace is refused, because a 202 would hide that nothing is delivered.
func TestNamespaceThatIsNotWatched(t *testing.T) {
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	options.Watched = watched.Of("acme,initech")
	server := testServer(t, options)
	if got := post(t, server.URL, "acme", simple); got.code != http.StatusAccepted {
		t.Errorf("a watched namespace: %s", got.raw)
	}
	got := post(t, server.URL, "globex", simple)
	if got.code != http.StatusNotFound || got.Type != "urn:postback:problem:namespace-not-watched" ||
		!strings.Contains(got.Detail, "does not watch namespace globex") || strings.Contains(got.raw, "initech") {
		t.Errorf("another: %s", got.raw)
	}
}

func TestAcceptedForms(t *testing.T) {
	tests := map[string]struct {
		body    string
		header  http.Header
		chunked bool
	}{
		"plain":               {body: simple},
		"charset":             {body: simple, header: http.Header{"Content-Type": {"Application/JSON; Charset=UTF-8"}}},
		"identity":            {body: simple, header: http.Header{"Content-Type": {jsonType}, "Content-Encoding": {"identity"}}},
		"at the limit":        {body: padded(DefaultMaxBodyBytes)},
		"at the limit, chunk": {body: padded(DefaultMaxBodyBytes), chunked: true},
	}
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	server := testServer(t, options)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			request := newPost(t, server.URL, "acme", []byte(tt.body))
			if tt.chunked {
				request.ContentLength, request.Body = -1, io.NopCloser(strings.NewReader(tt.body))
			}
			if tt.header != nil {
				request.Header = tt.header
			}
			got := do(t, request)
			if got.code != http.StatusAccepted || got.Events[0].Deliveries[0].Result != intake.Stored {
				t.Errorf("got %d: %s", got.code, got.raw)
			}
		})
	}
}

// countingBody counts the bytes that are read from it.
type countingBody struct {
	io.Reader
	read int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	return n, err
}

func (b *countingBody) Close() error { return nil }

func TestReadsAtMostOneByteOverTheLimit(t *testing.T) {
	options, _ := testOptions(doors.Store{})
	options.MaxBodyBytes = 1000
	s := options.server(t)
	for name, length := range map[string]int64{"unknown length": -1, "declared length": 5000} {
		t.Run(name, func(t *testing.T) {
			body := &countingBody{Reader: strings.NewReader(padded(5000))}
			request := newPost(t, "", "acme", nil)
			request.Body, request.ContentLength = body, length
			w := newRecorder()
			s.serve(w, request)
			if w.code != http.StatusRequestEntityTooLarge || body.read > 1001 {
				t.Errorf("got %d after reading %d bytes", w.code, body.read)
			}
		})
	}
}

type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newRecorder() *recorder                    { return &recorder{header: http.Header{}} }
func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func TestSlowBody(t *testing.T) {
	options, _ := testOptions(doors.Store{})
	options.readTimeout = 200 * time.Millisecond
	server := testServer(t, options)
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", eventsURL); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := readReply(t, response)
	if got.code != http.StatusRequestTimeout || got.Type != "urn:postback:problem:body-too-slow" || !response.Close {
		t.Errorf("got %d, close %v: %s", got.code, response.Close, got.raw)
	}
}

func TestBodyCutShort(t *testing.T) {
	options, offered := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	server := testServer(t, options)
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	// The body is a complete event, but shorter than Content-Length.
	if _, err := fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n%s", eventsURL, simple); err != nil {
		t.Fatal(err)
	}
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := readReply(t, response); got.code != http.StatusBadRequest || len(offered.Sorted()) > 0 {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
}

func TestOverload(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan struct{}, 2)
	store := doors.Store{OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error {
		entered <- struct{}{}
		<-hold
		return nil
	}}
	options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
	options.MaxInFlight = 2
	server := testServer(t, options)
	replies := make(chan *reply, 2)
	for range 2 {
		go func() { replies <- post(t, server.URL, "acme", simple) }()
		<-entered
	}
	got := post(t, server.URL, "acme", simple)
	if got.code != http.StatusTooManyRequests || got.Type != "urn:postback:problem:overloaded" || got.header.Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q: %s", got.code, got.header.Get("Retry-After"), got.raw)
	}
	close(hold)
	for range 2 {
		if got := <-replies; got.code != http.StatusAccepted {
			t.Errorf("a request in flight got %d: %s", got.code, got.raw)
		}
	}
	if got := post(t, server.URL, "acme", simple); got.code != http.StatusAccepted {
		t.Errorf("after the overload: got %d: %s", got.code, got.raw)
	}
}

func TestPanicTellsNothing(t *testing.T) {
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	options.acceptance.Routes = (*route.Index)(nil)
	server := testServer(t, options)
	got := post(t, server.URL, "acme", simple)
	if got.code != http.StatusInternalServerError || got.Type != "urn:postback:problem:internal" || !strings.HasPrefix(got.Instance, "urn:uuid:") {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	if strings.Contains(got.raw, "nil") || strings.Contains(got.raw, "goroutine") {
		t.Errorf("the answer tells internals: %s", got.raw)
	}
}

func TestClientGone(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 1)
	store := doors.Store{OnCreate: func(ctx context.Context, _ *v1alpha1.PostbackDelivery) error {
		close(entered)
		<-ctx.Done()
		left <- ctx.Err()
		return ctx.Err()
	}}
	options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
	options.acceptance.RequestStores = 1
	server := testServer(t, options)
	ctx, cancel := context.WithCancel(t.Context())
	request := newPost(t, server.URL, "acme", []byte(`[`+simple+`,`+simple+`]`)).WithContext(ctx)
	failed := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			err = errors.Join(errors.New("answered"), response.Body.Close())
		}
		failed <- err
	}()
	<-entered
	cancel()
	select {
	case err := <-left:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("storing ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("storing goes on for a producer that is gone")
	}
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
