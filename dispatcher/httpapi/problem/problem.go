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

// Package problem defines the answers of the HTTP doors, including problem documents (RFC 9457). The doors choose the
// answer. docs/ingest.md lists the kinds of problems.
package problem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
)

// Kind is a kind of problem. Its URN and status never change after a release.
type Kind struct {
	Name   string
	Status int
	title  string
	// retryAfter is the time after which a repeat may help; 0 means unknown.
	retryAfter time.Duration
}

// These are the kinds of problems.
var (
	InvalidNamespace      = Kind{"invalid-namespace", http.StatusBadRequest, "The namespace is not a valid name", 0}
	InvalidEvent          = Kind{"invalid-event", http.StatusBadRequest, "The request contains something that is not an event", 0}
	InvalidOrigin         = Kind{"invalid-origin", http.StatusBadRequest, "The origin is not valid", 0}
	Unauthenticated       = Kind{"unauthenticated", http.StatusUnauthorized, "The caller is not known", 0}
	ForbiddenSender       = Kind{"forbidden", http.StatusForbidden, "The caller may not post events for the namespace", 0}
	InvalidIdempotencyKey = Kind{"invalid-idempotency-key", http.StatusBadRequest, "The Idempotency-Key is not valid", 0}
	NotFound              = Kind{"not-found", http.StatusNotFound, "There is nothing at this path", 0}
	NamespaceNotWatched   = Kind{"namespace-not-watched", http.StatusNotFound, "The operator does not work for the namespace", 0}
	MethodNotAllowed      = Kind{"method-not-allowed", http.StatusMethodNotAllowed, "The method is not allowed", 0}
	BodyTooSlow           = Kind{"body-too-slow", http.StatusRequestTimeout, "The request did not arrive in time", 0}
	IDConflict            = Kind{"id-conflict", http.StatusConflict, "Another event has the same id", 0}
	BodyTooLarge          = Kind{"body-too-large", http.StatusRequestEntityTooLarge, "The request is too large", 0}
	TooManyDeliveries     = Kind{"too-many-deliveries", http.StatusRequestEntityTooLarge, "The request is for too many deliveries", 0}
	DeliveryRefused       = Kind{"delivery-refused", http.StatusUnprocessableEntity, "The Kubernetes API refuses the deliveries", 0}
	EventTooLarge         = Kind{"event-too-large", http.StatusRequestEntityTooLarge, "The event is too large to be stored", 0}
	UnsupportedMediaType  = Kind{"unsupported-media-type", http.StatusUnsupportedMediaType, "The request is neither application/json nor CloudEvents in JSON", 0}
	UnsupportedEncoding   = Kind{"unsupported-content-encoding", http.StatusUnsupportedMediaType, "The request is compressed", 0}
	Overloaded            = Kind{"overloaded", http.StatusTooManyRequests, "Too many requests at once", time.Second}
	RateLimited           = Kind{"rate-limited", http.StatusTooManyRequests, "The sender posts too many events", 0}
	NoRoom                = Kind{"no-room", http.StatusTooManyRequests, "No Postback has room for the events", 30 * time.Second}
	InternalError         = Kind{"internal", http.StatusInternalServerError, "Something went wrong here", 0}
	AccessUnknown         = Kind{"access-unknown", http.StatusServiceUnavailable, "It is not known whether the caller may post", 2 * time.Second}
	NotReady              = Kind{"not-ready", http.StatusServiceUnavailable, "The server has just started", time.Second}
	NotStored             = Kind{"not-stored", http.StatusServiceUnavailable, "The events could not be stored", 5 * time.Second}

	InvalidQuery    = Kind{"invalid-query", http.StatusBadRequest, "The query is not valid", 0}
	ForbiddenReader = Kind{"forbidden-log", http.StatusForbidden, "The caller may not do this with PostbackDeliveries", 0}
	NoLog           = Kind{"no-log", http.StatusNotFound, "There is no delivery log", 0}
	NoDelivery      = Kind{"no-delivery", http.StatusNotFound, "The log has no such delivery", 0}
	NotRestored     = Kind{"not-restored", http.StatusServiceUnavailable, "The delivery could not be restored", 5 * time.Second}
	LogUnavailable  = Kind{"log-unavailable", http.StatusServiceUnavailable, "The delivery log cannot be read", time.Second}
)

// The kinds of problems of acts on waiting deliveries.
var (
	NotWaiting = Kind{"not-waiting", http.StatusNotFound, "No such delivery waits", 0}
	InFlight   = Kind{"in-flight", http.StatusConflict, "The delivery is under attempt", time.Second}
	NoOwner    = Kind{"no-owner", http.StatusServiceUnavailable, "No elected replica answers", 2 * time.Second}
	ActUnknown = Kind{"act-unknown", http.StatusServiceUnavailable, "It is not known whether the request was carried out", 2 * time.Second}
)

// Kinds lists all kinds of problems.
var Kinds = []Kind{
	InvalidNamespace, InvalidEvent, InvalidOrigin, Unauthenticated, ForbiddenSender, InvalidIdempotencyKey, NotFound,
	NamespaceNotWatched, MethodNotAllowed, BodyTooSlow, IDConflict, BodyTooLarge, EventTooLarge, TooManyDeliveries, DeliveryRefused, UnsupportedMediaType, UnsupportedEncoding,
	Overloaded, RateLimited, NoRoom, InternalError, AccessUnknown, NotReady, NotStored,
	InvalidQuery, ForbiddenReader, NoLog, NoDelivery, NotRestored, LogUnavailable,
	NotWaiting, InFlight, NoOwner, ActUnknown,
}

// Problem is a problem document (RFC 9457).
type Problem struct {
	Type     string  `json:"type"`
	Title    string  `json:"title"`
	Status   int     `json:"status"`
	Detail   string  `json:"detail"`
	Instance string  `json:"instance,omitempty"`
	Pointer  *string `json:"pointer,omitempty"`
	// Events are the results of the events, if the request got so far.
	Events any `json:"events,omitempty"`
}

// Answer is the response of a door to a request.
type Answer struct {
	Status int
	// Kind is the name of the problem, or "" for none.
	Kind string
	// Body is the JSON body, or nil for none.
	Body    any
	Problem *Problem
	Header  http.Header
	// RetryAfter is the value of the header, rounded up to seconds; 0 omits it.
	RetryAfter time.Duration
}

// Refuse returns an answer with a problem document. For a 5xx, the problem has an instance, which finds the log line.
func Refuse(kind Kind, format string, args ...any) *Answer {
	p := &Problem{
		Type:   "urn:postback:problem:" + kind.Name,
		Title:  kind.title,
		Status: kind.Status,
		Detail: fmt.Sprintf(format, args...),
	}
	if kind.Status >= http.StatusInternalServerError {
		p.Instance = "urn:uuid:" + string(uuid.NewUUID())
	}
	return &Answer{Status: kind.Status, Kind: kind.Name, Body: p, Problem: p, Header: http.Header{}, RetryAfter: kind.retryAfter}
}

// With sets a header.
func (a *Answer) With(name, value string) *Answer {
	a.Header.Set(name, value)
	return a
}

// Closing makes the server close the connection after the answer, because it does not read the rest of the request.
func (a *Answer) Closing() *Answer { return a.With("Connection", "close") }

// Write sends the answer. It fails only if the client is gone.
func (a *Answer) Write(w http.ResponseWriter) error {
	var body bytes.Buffer
	header := w.Header()
	for name, values := range a.Header {
		header[name] = values
	}
	if a.Body != nil {
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(a.Body); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		header.Set("Content-Type", "application/json")
	}
	if a.Problem != nil {
		header.Set("Content-Type", "application/problem+json")
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if a.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.RetryAfter.Seconds()))))
	}
	w.WriteHeader(a.Status)
	if _, err := w.Write(body.Bytes()); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}
