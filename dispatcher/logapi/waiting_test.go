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
	"errors"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/test/doors"
)

func TestDrop(t *testing.T) {
	waiting := &memoryLog{}
	options := testOptions()
	options.Reader, options.Waiting = waiting, waiting
	options.Rights = rightsOf{"jane": {right("drop", "namespace acme")}}
	server := testServer(t, options)
	one, all := "/v1/namespaces/acme/waiting/crm-x?sequence=7", "/v1/namespaces/acme/waiting?postback=crm"
	for name, test := range map[string]struct {
		path    string
		err     error
		code    int
		problem string
		retry   string
	}{
		"one":                         {path: one, code: 200},
		"all of a Postback":           {path: all, code: 200},
		"one that does not wait":      {one, deliverylog.ErrNotWaiting, 404, "not-waiting", ""},
		"all of none":                 {all, deliverylog.ErrNotWaiting, 404, "not-waiting", ""},
		"one under attempt":           {one, fmt.Errorf("%w: by another", deliverylog.ErrInFlight), 409, "in-flight", "1"},
		"without an owner":            {one, deliverylog.ErrNoOwner, 503, "no-owner", "2"},
		"without an answer of NATS":   {one, fmt.Errorf("%w: timeout", deliverylog.ErrUnknown), 503, "act-unknown", "2"},
		"by an error of another kind": {one, errors.New("broken"), 503, "act-unknown", "2"},
		"without a sequence":          {path: "/v1/namespaces/acme/waiting/crm-x", code: 400, problem: "invalid-query"},
		"by a sequence that is none":  {path: "/v1/namespaces/acme/waiting/crm-x?sequence=x", code: 400, problem: "invalid-query"},
		"without a Postback":          {path: "/v1/namespaces/acme/waiting", code: 400, problem: "invalid-query"},
		"by a filter":                 {path: all + "&event=lead.created", code: 400, problem: "invalid-query"},
		"elsewhere":                   {path: "/v1/namespaces/globex/waiting?postback=crm", code: 403, problem: "forbidden-log"},
	} {
		t.Run(name, func(t *testing.T) {
			waiting.acts = nil
			waiting.act = func(deliverylog.Act) (deliverylog.Done, error) {
				return deliverylog.Done{Deliveries: 3, InFlight: 1}, test.err
			}
			got := ask(t, "DELETE", server.URL+test.path, "jane")
			if got.code != test.code || test.problem != "" && got.Type != "urn:postback:problem:"+test.problem || got.header.Get("Retry-After") != test.retry {
				t.Fatalf("%d %s %s", got.code, got.header, got.raw)
			}
			if test.code == 200 && strings.TrimSpace(got.raw) != `{"deliveries":3,"inFlight":1}` {
				t.Errorf("answer %s", got.raw)
			}
			if test.code == 400 && len(waiting.acts) > 0 {
				t.Errorf("acts %+v", waiting.acts)
			}
			for _, a := range waiting.acts {
				want := deliverylog.Act{Verb: deliverylog.Drop, Namespace: "acme", Name: "crm-x", Sequence: 7, User: "jane"}
				if test.path == all {
					want = deliverylog.Act{Verb: deliverylog.DropAll, Namespace: "acme", Postback: "crm", User: "jane"}
				}
				if a != want {
					t.Errorf("act %+v, want %+v", a, want)
				}
			}
		})
	}
}

// The elected replica makes the object, and a repeated request finds it.
func TestRestoreOfAWaitingDelivery(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "logapi-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	d := logged(t, crm, "evt_1")
	d.Status, d.ResourceVersion = v1alpha1.PostbackDeliveryStatus{}, ""
	waiting := &memoryLog{act: func(deliverylog.Act) (deliverylog.Done, error) {
		return deliverylog.Done{Deliveries: 1}, c.Create(t.Context(), d, client.FieldOwner("test"))
	}}
	options := testOptions()
	options.Reader, options.Waiting, options.API = waiting, waiting, c
	options.Rights = rightsOf{"jane": {right("patch", "namespace "+namespace)}}
	server := testServer(t, options)
	for i, code := range []int{201, 200} {
		got := ask(t, "POST", server.URL+"/v1/namespaces/"+namespace+"/waiting/"+d.Name+"/restore?sequence=7", "jane")
		restored := &v1alpha1.PostbackDelivery{}
		if err := json.Unmarshal([]byte(got.raw), restored); err != nil || got.code != code || restored.UID != d.UID || restored.Kind != "PostbackDelivery" {
			t.Fatalf("restore %d: %d %s", i, got.code, got.raw)
		}
	}
	if want := (deliverylog.Act{Verb: deliverylog.Restore, Namespace: namespace, Name: d.Name, Sequence: 7, User: "jane"}); len(waiting.acts) != 1 || waiting.acts[0] != want {
		t.Errorf("acts %+v", waiting.acts)
	}
	waiting.act = func(deliverylog.Act) (deliverylog.Done, error) {
		return deliverylog.Done{}, fmt.Errorf("%w: Quota: exceeded", deliverylog.ErrRefused)
	}
	if got := ask(t, "POST", server.URL+"/v1/namespaces/"+namespace+"/waiting/crm-other/restore?sequence=7", "jane"); got.code != 422 || got.Type != "urn:postback:problem:delivery-refused" {
		t.Errorf("a refused one: %d %s", got.code, got.raw)
	}
}
