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
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlp is a collector: a server that receives traces by OTLP and keeps them.
type otlp struct {
	*httptest.Server

	mu    sync.Mutex
	spans []span
	// all has everything that was received, as text.
	all string
}

// span is an exported span, with its ids in hexadecimal as in a traceparent.
type span struct {
	name, trace, id, parent string
	kind                    trace.Span_SpanKind
	failed                  bool
	// attributes are the attributes of the span, resource those of the process, as text.
	attributes, resource map[string]string
}

func startOTLP(t *testing.T) *otlp {
	t.Helper()
	o := &otlp{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := o.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *otlp) take(r *http.Request) error {
	if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return fmt.Errorf("a request to %s with %s", r.URL.Path, r.Header.Get("Content-Type"))
	}
	reader := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		reader = unpacked
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	request := &collector.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(body, request); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all += request.String()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				o.spans = append(o.spans, span{
					name: s.GetName(), trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
					kind: s.GetKind(), failed: s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR,
					attributes: texts(s.GetAttributes()), resource: texts(resource.GetResource().GetAttributes()),
				})
			}
		}
	}
	return nil
}

func texts(attributes []*common.KeyValue) map[string]string {
	values := map[string]string{}
	for _, a := range attributes {
		switch value := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			values[a.GetKey()] = value.StringValue
		case *common.AnyValue_IntValue:
			values[a.GetKey()] = fmt.Sprint(value.IntValue)
		default:
			values[a.GetKey()] = a.GetValue().String()
		}
	}
	return values
}

// named returns the spans with a name in a trace, in order of arrival.
func (o *otlp) named(traceID, name string) []span {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []span
	for _, s := range o.spans {
		if s.trace == traceID && s.name == name {
			found = append(found, s)
		}
	}
	return found
}

func (o *otlp) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}
