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
	"net/http"
	"strings"
	"sync"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/decode"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

// kept is a store that keeps the created deliveries.
type kept struct {
	doors.Store
	mu  sync.Mutex
	all []*v1alpha1.PostbackDelivery
}

func keep() *kept {
	k := &kept{}
	k.OnCreate = func(_ context.Context, d *v1alpha1.PostbackDelivery) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.all = append(k.all, d.DeepCopy())
		return nil
	}
	return k
}

func sdkEvent(t *testing.T, id string) cloudevents.Event {
	t.Helper()
	e := cloudevents.New()
	e.SetID(id)
	e.SetSource("/shop/orders")
	e.SetType("sale.created")
	e.SetExtension("traceparent", "00-ab")
	if err := e.SetData(cloudevents.ApplicationJSON, map[string]int{"amount": 7}); err != nil {
		t.Fatal(err)
	}
	return e
}

const wantCE = `{"specversion":"1.0","id":"order 1","source":"/shop/orders","type":"sale.created","time":"2026-01-31T12:00:00.123Z","datacontenttype":"application/json","traceparent":"00-ab","data":{"amount":7}}`

// The CloudEvents SDK sends the same event in each mode, and the endpoint gets it unchanged.
func TestCloudEventsOfTheSDK(t *testing.T) {
	e := sdkEvent(t, "order 1")
	id := event.DerivedID("cloudevents", "/shop/orders", "order 1")
	modes := map[string]func(url string) (*http.Request, error){
		"binary": func(url string) (*http.Request, error) { return cehttp.NewHTTPRequestFromEvent(t.Context(), url, e) },
		"batch": func(url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvents(t.Context(), url, []cloudevents.Event{e})
		},
		"structured": func(url string) (*http.Request, error) {
			body, err := e.MarshalJSON()
			if err != nil {
				return nil, err
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(string(body)))
			if err == nil {
				request.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
			}
			return request, err
		},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			plain := doors.LooseRoute("acme", "plain", "", "sale.*")
			passed := doors.LooseRoute("acme", "passed", "", "sale.*")
			passed.Format = v1alpha1.FormatCloudEvents
			store := keep()
			options, _ := testOptions(store, plain, passed)
			server := testServer(t, options)
			request, err := mode(server.URL + eventsURL)
			if err != nil {
				t.Fatal(err)
			}
			// A Knative Broker treats a body that is not a CloudEvent as a failure.
			if got := do(t, request); got.code != http.StatusAccepted || got.raw != "" || got.header.Get("Content-Type") != "" {
				t.Fatalf("got %d %v: %s", got.code, got.header, got.raw)
			}
			bodies := map[string]string{}
			for _, d := range store.all {
				bodies[d.Spec.PostbackRef.Name] = d.Spec.Body
				if d.Spec.Event.ID != id {
					t.Errorf("got id %s", d.Spec.Event.ID)
				}
			}
			if want := `{"id":"` + id + `","event":"sale.created","createdAt":"2026-01-31T12:00:00.123Z","data":{"amount":7}}`; bodies["plain"] != want {
				t.Errorf("got  %s\nwant %s", bodies["plain"], want)
			}
			if bodies["passed"] != wantCE {
				t.Errorf("got  %s\nwant %s", bodies["passed"], wantCE)
			}
			if request, err = mode(server.URL + eventsURL); err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept", "text/html, application/json;q=0.9")
			if got := do(t, request); got.code != http.StatusAccepted || len(got.Events) != 1 || got.Events[0].ID != id {
				t.Errorf("asked for a body: %d: %s", got.code, got.raw)
			}
		})
	}
}

func TestCloudEventsRefused(t *testing.T) {
	whole := func() http.Header {
		return http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"x"}, "Content-Type": {jsonType}}
	}
	without := func(name string) http.Header {
		h := whole()
		h.Del(name)
		return h
	}
	with := func(name string, values ...string) http.Header {
		h := whole()
		h[name] = values
		return h
	}
	typed := func(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }
	tests := map[string]struct {
		header http.Header
		body   string
		code   int
		detail string
	}{
		"binary":                 {whole(), `{}`, 202, ""},
		"binary, no data":        {without("Content-Type"), ``, 202, ""},
		"binary, +json":          {with("Content-Type", "application/x+json; charset=UTF-8"), `{}`, 202, ""},
		"binary, no specversion": {without("Ce-Specversion"), `{}`, 400, "ce-specversion is missing"},
		"binary, no id":          {without("Ce-Id"), `{}`, 400, "ce-id is missing"},
		"binary, no source":      {without("Ce-Source"), `{}`, 400, "ce-source is missing"},
		"binary, no type":        {without("Ce-Type"), `{}`, 400, "ce-type is missing"},
		"binary, id twice":       {with("Ce-Id", "1", "2"), `{}`, 400, "is present 2 times"},
		"binary, type of data":   {with("Ce-Datacontenttype", "application/json"), `{}`, 400, "send Content-Type"},
		"binary, text":           {with("Content-Type", "text/plain"), `x`, 415, "CloudEvents in JSON"},
		"binary, an array":       {whole(), `[]`, 400, "must be an object"},
		"structured":             {typed("application/cloudevents+json; charset=utf-8"), `{"specversion":"1.0","id":"1","source":"/s","type":"x"}`, 202, ""},
		"structured over binary": {with("Content-Type", "application/cloudevents+json"), `{"specversion":"1.0","id":"1","source":"/s"}`, 400, "/type: is missing"},
		"batch":                  {typed("application/cloudevents-batch+json"), `[{"specversion":"1.0","id":"1","source":"/s","type":"x"}]`, 202, ""},
		"empty batch":            {typed("application/cloudevents-batch+json"), `[]`, 400, "is empty"},
		"XML":                    {typed("application/cloudevents+xml"), `<x/>`, 415, "CloudEvents in JSON"},
		"Avro over binary":       {with("Content-Type", "application/cloudevents+avro"), `{}`, 415, "CloudEvents in JSON"},
		"UTF-16":                 {typed("application/cloudevents+json; charset=utf-16"), `{}`, 415, "UTF-8"},
		"another JSON":           {typed("application/x+json"), simple, 415, "Content-Type: application/json"},
	}
	options, _ := testOptions(doors.Store{})
	server := testServer(t, options)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			request := newPost(t, server.URL, "acme", []byte(tt.body))
			request.Header = tt.header
			got := do(t, request)
			if got.code != tt.code || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %d: %s", got.code, got.raw)
			}
			if (got.code == 400) != (got.Pointer != nil) || got.code == 415 && got.header.Get("Accept-Post") != decode.AcceptedTypes {
				t.Errorf("got %v: %s", got.header, got.raw)
			}
		})
	}
}

// The same CloudEvent posted again is a Duplicate, even after spec.format changed.
func TestCloudEventAgain(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, _ := testOptions(c, crm)
	server := testServer(t, options)
	send := func(body string) accept.DeliveryResult {
		request := newPost(t, server.URL, namespace, []byte(body))
		request.Header.Set("Content-Type", "application/cloudevents+json")
		request.Header.Set("Accept", jsonType)
		got := do(t, request)
		if len(got.Events) != 1 || len(got.Events[0].Deliveries) != 1 {
			t.Fatalf("got %d: %s", got.code, got.raw)
		}
		return got.Events[0].Deliveries[0]
	}
	event := func(source, data string) string {
		return `{"specversion":"1.0","id":"1","source":"` + source + `","type":"sale.created","data":` + data + `}`
	}
	ask := func(f v1alpha1.PayloadFormat) {
		changed := *crm
		changed.Format = f
		options.acceptance.Routes.(*route.Index).Set(&changed)
	}
	for _, f := range []v1alpha1.PayloadFormat{v1alpha1.FormatCloudEvents, v1alpha1.FormatJSON, v1alpha1.FormatSlack} {
		t.Run("stored as "+string(f), func(t *testing.T) {
			source := "/" + string(f)
			ask(f)
			if got := send(event(source, `{"sale":{"amount":1}}`)); got.Result != intake.Stored {
				t.Errorf("%+v", got)
			}
			for _, now := range []v1alpha1.PayloadFormat{v1alpha1.FormatCloudEvents, v1alpha1.FormatJSON, v1alpha1.FormatSlack} {
				ask(now)
				if got := send(event(source, `{"sale":{"amount":1}}`)); got.Result != intake.Duplicate {
					t.Errorf("%s, sent again as %s: %+v", f, now, got)
				}
				if got := send(event(source, `{"sale":{"amount":2}}`)); got.Result != intake.Conflict {
					t.Errorf("%s, another event as %s: %+v", f, now, got)
				}
			}
		})
	}
}
