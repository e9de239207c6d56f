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

// Package trace records one trace per event, from the post to each attempt, across replicas and over time. The
// endpoint gets the trace context, too. Without a collector in the environment it is off. No span contains a key, a
// token, a URL's path or query, a header value or data of an event.
package trace

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// These are the names of spans.
const (
	requestSpan = "POST /v1/namespaces/{namespace}/events"
	storeSpan   = "store delivery"
	attemptSpan = "attempt delivery"
)

// These are attribute names, of OpenTelemetry's conventions and our own.
const (
	methodKey    = attribute.Key("http.request.method")
	routeKey     = attribute.Key("http.route")
	statusKey    = attribute.Key("http.response.status_code")
	hostKey      = attribute.Key("server.address")
	portKey      = attribute.Key("server.port")
	namespaceKey = attribute.Key("k8s.namespace.name")

	postbackKey  = attribute.Key("postback.name")
	eventIDKey   = attribute.Key("postback.event.id")
	eventTypeKey = attribute.Key("postback.event.type")
	deliveryKey  = attribute.Key("postback.delivery")
	eventsKey    = attribute.Key("postback.events")
	resultKey    = attribute.Key("postback.result")
	problemKey   = attribute.Key("postback.problem")
	attemptKey   = attribute.Key("postback.attempt")
	outcomeKey   = attribute.Key("postback.outcome")
	phaseKey     = attribute.Key("postback.phase")
)

const traceparent = "traceparent"

// wire is the W3C Trace Context. It omits the tracestate, which belongs to the producer.
var wire propagation.TraceContext

// Traces makes spans. A nil *Traces makes none and passes no trace context on.
type Traces struct {
	tracer oteltrace.Tracer
}

// New returns Traces that make spans of a provider.
func New(provider oteltrace.TracerProvider) *Traces {
	return &Traces{provider.Tracer("github.com/postback-dev/postback-operator/dispatcher")}
}

// Span is a span in progress. It may be nil.
type Span struct {
	span oteltrace.Span
}

// Request begins the span of a request to post events. Its parent is the trace context in the request's header.
func (t *Traces) Request(ctx context.Context, header http.Header, namespace string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx = wire.Extract(ctx, propagation.HeaderCarrier(header))
	return t.start(ctx, requestSpan, oteltrace.SpanKindServer,
		methodKey.String(http.MethodPost), routeKey.String("/v1/namespaces/{namespace}/events"), namespaceKey.String(namespace))
}

// EndRequest ends the span of a request, with the status of the response, the name of the problem or "", and the
// number of events.
func (s *Span) EndRequest(status int, problem string, events int) {
	if s == nil {
		return
	}
	s.span.SetAttributes(statusKey.Int(status), eventsKey.Int(events))
	if problem != "" {
		s.span.SetAttributes(problemKey.String(problem))
	}
	if status >= http.StatusInternalServerError {
		s.span.SetStatus(codes.Error, problem)
	}
	s.span.End()
}

// Store begins the span of a store, and annotates the delivery with its trace context, so that attempts become its
// children.
func (t *Traces) Store(ctx context.Context, d *v1alpha1.PostbackDelivery) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, span := t.start(ctx, storeSpan, oteltrace.SpanKindProducer, of(d)...)
	carrier := propagation.MapCarrier{}
	wire.Inject(ctx, carrier)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[v1alpha1.TraceparentAnnotation] = carrier[traceparent]
	return ctx, span
}

// EndStore ends the span of a store. failed is true if a fault prevented the store.
func (s *Span) EndStore(result string, failed bool) {
	if s == nil {
		return
	}
	s.span.SetAttributes(resultKey.String(result))
	if failed {
		s.span.SetStatus(codes.Error, result)
	}
	s.span.End()
}

// Attempt begins the span of an attempt, in the trace of the delivery. Inject passes the returned context on to a
// request.
func (t *Traces) Attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	// A user who edits the annotation can only move the delivery into another trace.
	ctx = wire.Extract(oteltrace.ContextWithSpanContext(ctx, oteltrace.SpanContext{}),
		propagation.MapCarrier{traceparent: d.Annotations[v1alpha1.TraceparentAnnotation]})
	attributes := append(of(d), methodKey.String(http.MethodPost))
	return t.start(ctx, attemptSpan, oteltrace.SpanKindClient, append(attributes, address(r.URL)...)...)
}

// EndAttempt ends the span of an attempt. recorded is the delivery with the record of the attempt, or nil if that
// failed.
func (s *Span) EndAttempt(a v1alpha1.Attempt, recorded *v1alpha1.PostbackDelivery) {
	if s == nil {
		return
	}
	s.span.SetAttributes(outcomeKey.String(string(a.Outcome)))
	if a.StatusCode != nil {
		s.span.SetAttributes(statusKey.Int(int(ptr.Deref(a.StatusCode, 0))))
	}
	if recorded != nil {
		s.span.SetAttributes(attemptKey.Int(int(recorded.Status.AttemptCount)), phaseKey.String(string(recorded.Status.Phase)))
	}
	if a.Outcome != v1alpha1.OutcomeSucceeded {
		s.span.SetStatus(codes.Error, string(a.Outcome))
	}
	s.span.End(oteltrace.WithTimestamp(a.Time.Add(max(a.Duration.Duration, time.Microsecond))))
}

// ID returns the trace ID of the span, or "".
func (s *Span) ID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Inject sets the trace context of a context's span as a header of a request.
func Inject(ctx context.Context, header http.Header) {
	carrier := propagation.MapCarrier{}
	wire.Inject(ctx, carrier)
	if value := carrier[traceparent]; value != "" {
		header.Set(traceparent, value)
	}
}

func (t *Traces) start(ctx context.Context, name string, kind oteltrace.SpanKind, attributes ...attribute.KeyValue) (context.Context, *Span) {
	ctx, span := t.tracer.Start(ctx, name, oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attributes...))
	return ctx, &Span{span}
}

// of returns the attributes of a delivery.
func of(d *v1alpha1.PostbackDelivery) []attribute.KeyValue {
	return []attribute.KeyValue{
		namespaceKey.String(d.Namespace), postbackKey.String(d.Spec.PostbackRef.Name), deliveryKey.String(d.Name),
		eventIDKey.String(d.Spec.Event.ID), eventTypeKey.String(d.Spec.Event.Type),
	}
}

// address returns host and port of a URL. The rest may be secret.
func address(raw string) []attribute.KeyValue {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	attributes := []attribute.KeyValue{hostKey.String(u.Hostname())}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if number, err := strconv.Atoi(port); err == nil {
		attributes = append(attributes, portKey.Int(number))
	}
	return attributes
}
