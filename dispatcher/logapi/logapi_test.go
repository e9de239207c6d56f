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
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/test/doors"
)

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
