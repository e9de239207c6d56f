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

package ingest

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

// problemKind is a kind of problem. Its URN and status never change once released; docs/ingest.md lists them.
type problemKind struct {
	name   string
	status int
	title  string
}

var (
	invalidNamespace      = problemKind{"invalid-namespace", http.StatusBadRequest, "The namespace is not a valid name"}
	invalidEvent          = problemKind{"invalid-event", http.StatusBadRequest, "The request holds something that is not an event"}
	invalidOrigin         = problemKind{"invalid-origin", http.StatusBadRequest, "The origin is not valid"}
	unauthenticated       = problemKind{"unauthenticated", http.StatusUnauthorized, "The caller is not known"}
	forbiddenSender       = problemKind{"forbidden", http.StatusForbidden, "The caller may not post events for the namespace"}
	invalidIdempotencyKey = problemKind{"invalid-idempotency-key", http.StatusBadRequest, "The Idempotency-Key is not valid"}
	notFound              = problemKind{"not-found", http.StatusNotFound, "There is nothing at this path"}
	namespaceNotWatched   = problemKind{"namespace-not-watched", http.StatusNotFound, "The operator does not work for the namespace"}
	methodNotAllowed      = problemKind{"method-not-allowed", http.StatusMethodNotAllowed, "The method is not allowed"}
	bodyTooSlow           = problemKind{"body-too-slow", http.StatusRequestTimeout, "The request did not arrive in time"}
	idConflict            = problemKind{"id-conflict", http.StatusConflict, "Another event has the same id"}
	bodyTooLarge          = problemKind{"body-too-large", http.StatusRequestEntityTooLarge, "The request is too large"}
	eventTooLarge         = problemKind{"event-too-large", http.StatusRequestEntityTooLarge, "The event is too large to be stored"}
	unsupportedMediaType  = problemKind{"unsupported-media-type", http.StatusUnsupportedMediaType, "The request is neither application/json nor CloudEvents in JSON"}
	unsupportedEncoding   = problemKind{"unsupported-content-encoding", http.StatusUnsupportedMediaType, "The request is compressed"}
	overloaded            = problemKind{"overloaded", http.StatusTooManyRequests, "Too many requests at once"}
	rateLimited           = problemKind{"rate-limited", http.StatusTooManyRequests, "The sender posts too many events"}
	noRoom                = problemKind{"no-room", http.StatusTooManyRequests, "No Postback has room for the events"}
	internalError         = problemKind{"internal", http.StatusInternalServerError, "Something went wrong here"}
	accessUnknown         = problemKind{"access-unknown", http.StatusServiceUnavailable, "It is not known whether the caller may post"}
	notReady              = problemKind{"not-ready", http.StatusServiceUnavailable, "The server has just started"}
	notStored             = problemKind{"not-stored", http.StatusServiceUnavailable, "The events could not be stored"}

	invalidQuery    = problemKind{"invalid-query", http.StatusBadRequest, "The query is not valid"}
	forbiddenReader = problemKind{"forbidden-log", http.StatusForbidden, "The caller may not do this with PostbackDeliveries"}
	noLog           = problemKind{"no-log", http.StatusNotFound, "There is no log of successes"}
	noDelivery      = problemKind{"no-delivery", http.StatusNotFound, "The log has no such delivery"}
	notRestored     = problemKind{"not-restored", http.StatusServiceUnavailable, "The delivery could not be restored"}
	logUnavailable  = problemKind{"log-unavailable", http.StatusServiceUnavailable, "The log cannot be read"}
)

// problemKinds are all of them.
var problemKinds = []problemKind{
	invalidNamespace, invalidEvent, invalidOrigin, unauthenticated, forbiddenSender, invalidIdempotencyKey, notFound,
	namespaceNotWatched, methodNotAllowed, bodyTooSlow, idConflict, bodyTooLarge, eventTooLarge, unsupportedMediaType, unsupportedEncoding,
	overloaded, rateLimited, noRoom, internalError, accessUnknown, notReady, notStored,
	invalidQuery, forbiddenReader, noLog, noDelivery, notRestored, logUnavailable,
}

// problem is a problem document (RFC 9457).
type problem struct {
	Type     string        `json:"type"`
	Title    string        `json:"title"`
	Status   int           `json:"status"`
	Detail   string        `json:"detail"`
	Instance string        `json:"instance,omitempty"`
	Pointer  *string       `json:"pointer,omitempty"`
	Events   []eventResult `json:"events,omitempty"`
}

// answer is the answer to a request.
type answer struct {
	status int
	// kind is the name of the problem, or "".
	kind string
	// body is nil if the answer has none.
	body       any
	problem    *problem
	header     http.Header
	retryAfter time.Duration
}

// refuse returns a problem as an answer. A problem on this side gets an instance, by which the log line is found.
func refuse(kind problemKind, format string, args ...any) *answer {
	p := &problem{
		Type:   "urn:postback:problem:" + kind.name,
		Title:  kind.title,
		Status: kind.status,
		Detail: fmt.Sprintf(format, args...),
	}
	if kind.status >= http.StatusInternalServerError {
		p.Instance = "urn:uuid:" + string(uuid.NewUUID())
	}
	return &answer{status: kind.status, kind: kind.name, body: p, problem: p, header: http.Header{}}
}

// with sets a header.
func (a *answer) with(name, value string) *answer {
	a.header.Set(name, value)
	return a
}

// closing ends the connection after the answer, because the rest of the request is not read.
func (a *answer) closing() *answer { return a.with("Connection", "close") }

// write sends the answer. It fails only if the client is gone, about which nothing can be done.
func (a *answer) write(w http.ResponseWriter) error {
	var body bytes.Buffer
	header := w.Header()
	for name, values := range a.header {
		header[name] = values
	}
	if a.body != nil {
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(a.body); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		header.Set("Content-Type", "application/json")
	}
	if a.problem != nil {
		header.Set("Content-Type", "application/problem+json")
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retryAfter.Seconds()))))
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(body.Bytes()); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}
