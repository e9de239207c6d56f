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

package monitoring

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/onsi/gomega"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	traced       = "/traced"
	producerSpan = "b7ad6b7169203331"
)

// startTraced starts a dispatcher that exports traces, and ends with the test.
func startTraced(t *testing.T, name string, o *otlp) *operator.Process {
	t.Helper()
	p, err := op.StartDispatcher(t.Context(), name, operator.WithEnv(
		"OTEL_EXPORTER_OTLP_ENDPOINT="+o.URL, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

func end(t *testing.T, p *operator.Process) {
	t.Helper()
	if !p.Running() {
		return
	}
	if code, err := p.Terminate(context.Background()); err != nil || code != 0 {
		t.Errorf("%s ended with %d: %v", p.Name, code, err)
	}
}

// TestOneTraceTellsOfAnEvent: one trace covers the producer's request, the store, each attempt, by several replicas,
// and the endpoint. It contains no secret.
func TestOneTraceTellsOfAnEvent(t *testing.T) {
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	g := gomega.NewWithT(t)
	// The shared dispatcher exports nothing, so it must not make the attempts.
	end(t, dispatcher)
	t.Cleanup(func() {
		if err := dispatcher.Restart(context.Background()); err != nil {
			t.Error(err)
		}
	})
	o := startOTLP(t)
	first := startTraced(t, "postback-dispatcher-traced-0", o)
	n := newTenant(t, "traced")
	// The Retry-After gives the first replica time to end before the retry.
	n.endpoint.Answer(traced, receiver.Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"30"}}, Times: 1})
	n.postback(t, "traced", "lead.created", traced+"?token=hush-hush")
	header := http.Header{"Traceparent": {"00-" + traceID + "-" + producerSpan + "-01"}, "Tracestate": {"vendor=private"}}
	if status := n.postTo(t, first, n.token, `{"id":"evt_traced","event":"lead.created","data":{"note":"quiet-please"}}`, header); status != http.StatusAccepted {
		t.Fatalf("the answer is %d", status)
	}
	if status := n.postTo(t, first, "not-a-token", `{}`, header); status != http.StatusUnauthorized {
		t.Fatalf("the answer is %d", status)
	}
	g.Eventually(func() []span { return o.named(traceID, "attempt delivery") }).WithTimeout(patience).Should(gomega.HaveLen(1))
	// Another replica makes the retry.
	end(t, first)
	startTraced(t, "postback-dispatcher-traced-1", o)
	g.Eventually(func() []span { return o.named(traceID, "attempt delivery") }).WithTimeout(2 * patience).Should(gomega.HaveLen(2))

	requests, stores, attempts := o.named(traceID, "POST /v1/namespaces/{namespace}/events"), o.named(traceID, "store delivery"), o.named(traceID, "attempt delivery")
	g.Expect(requests).To(gomega.HaveLen(1), "only of those who may post")
	g.Expect(stores).To(gomega.HaveLen(1))
	g.Expect(requests[0].parent).To(gomega.Equal(producerSpan))
	g.Expect(stores[0].parent).To(gomega.Equal(requests[0].id))
	g.Expect(requests[0].kind).To(gomega.Equal(trace.Span_SPAN_KIND_SERVER))
	g.Expect(requests[0].attributes).To(gomega.And(gomega.HaveKeyWithValue("http.response.status_code", "202"), gomega.HaveKeyWithValue("postback.events", "1")))
	g.Expect(stores[0].attributes).To(gomega.And(gomega.HaveKeyWithValue("postback.result", "Stored"), gomega.HaveKeyWithValue("postback.event.id", "evt_traced")))
	received := n.endpoint.Requests(traced)
	g.Expect(received).To(gomega.HaveLen(2))
	for i, want := range []struct {
		outcome, status, phase, replica string
		failed                          bool
	}{
		{"Failed5xx", "503", "Retrying", "postback-dispatcher-traced-0", true},
		{"Succeeded", "200", "Delivered", "postback-dispatcher-traced-1", false},
	} {
		a := attempts[i]
		g.Expect(a.parent).To(gomega.Equal(stores[0].id))
		g.Expect(a.kind).To(gomega.Equal(trace.Span_SPAN_KIND_CLIENT))
		g.Expect(a.failed).To(gomega.Equal(want.failed))
		for key, value := range map[string]string{
			"postback.outcome": want.outcome, "http.response.status_code": want.status, "postback.phase": want.phase, "postback.attempt": fmt.Sprint(i + 1),
			"postback.name": "traced", "k8s.namespace.name": "traced", "postback.event.type": "lead.created", "server.address": "127.0.0.1",
		} {
			g.Expect(a.attributes).To(gomega.HaveKeyWithValue(key, value))
		}
		for key, value := range map[string]string{
			"service.name": "postback-dispatcher", "service.instance.id": want.replica, "deployment.environment.name": "test",
		} {
			g.Expect(a.resource).To(gomega.HaveKeyWithValue(key, value))
		}
		g.Expect(received[i].Header.Values("traceparent")).To(gomega.Equal([]string{"00-" + traceID + "-" + a.id + "-01"}))
		g.Expect(received[i].Header.Values("tracestate")).To(gomega.BeEmpty())
	}
	g.Expect(annotationOf(t, n, "evt_traced")).To(gomega.Equal("00-" + traceID + "-" + stores[0].id + "-01"))
	n.checkQuiet(t, o.text())
}

// checkQuiet checks that exported text contains no secret.
func (n *tenant) checkQuiet(t *testing.T, text string) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: n.namespace, Name: "traced"}, secret); err != nil {
		t.Fatal(err)
	}
	for what, hidden := range map[string]string{
		"the token in the URL": "hush-hush", "the path of the URL": traced + "?", "data": "quiet-please", "the token of the sender": n.token,
		"the signing key": string(secret.Data[v1alpha1.SigningKeyName]),
	} {
		if strings.Contains(text, hidden) {
			t.Errorf("%s is in the traces", what)
		}
	}
	if !strings.Contains(text, "evt_traced") {
		t.Error("what was exported is not what was looked through")
	}
}

// TestTracesAreOffByDefault: by default no trace context is read, stored or passed on.
func TestTracesAreOffByDefault(t *testing.T) {
	n := newTenant(t, "untraced")
	n.postback(t, "untraced", "lead.created", traced)
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319d-" + producerSpan + "-01"}}
	if status := n.postTo(t, dispatcher, n.token, `{"id":"evt_untraced","event":"lead.created","data":{}}`, header); status != http.StatusAccepted {
		t.Fatalf("the answer is %d", status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	received, err := n.endpoint.Wait(ctx, traced, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := received[0].Header.Get("traceparent"); got != "" {
		t.Errorf("the endpoint got traceparent %s", got)
	}
	if got := annotationOf(t, n, "evt_untraced"); got != "" {
		t.Errorf("the delivery carries %s", got)
	}
}

// annotationOf returns the traceparent annotation of an event's delivery.
func annotationOf(t *testing.T, n *tenant, id string) string {
	t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Spec.Event.ID == id {
			return list.Items[i].Annotations[v1alpha1.TraceparentAnnotation]
		}
	}
	t.Fatalf("there is no delivery of event %s", id)
	return ""
}
