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
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/test/doors"
)

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
