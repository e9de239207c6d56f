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
	"context"
	"errors"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/dispatcher/event"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const (
	idempotencyKeyHeader = "Idempotency-Key"
	maxIdempotencyKey    = 255
	retryOverloaded      = time.Second
	retryNotReady        = time.Second
	// usualBody is up to which size a body gets its room at once.
	usualBody = 16 << 10
)

// serve answers a request and says so in the log.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.serveLog(w, r) {
		return
	}
	start := s.options.Clock.Now()
	namespace, events, a := s.answer(w, r)
	took := s.options.Clock.Since(start)
	countRequest(a, took)
	if err := a.write(w); err != nil {
		s.options.Log.V(1).Info("Answer not sent", "namespace", namespace, "reason", err.Error())
	}
	// Every request comes by here: what nobody reads is not put together.
	if log := s.options.Log.V(1); log.Enabled() {
		log.Info("Answered request", summary(r, namespace, events, a, took)...)
	}
}

// summary is the keys and values of the log line about a request.
func summary(r *http.Request, namespace string, events []eventResult, a *answer, took time.Duration) []any {
	counts := tallyOf(events)
	fields := []any{
		"method", r.Method, "namespace", namespace, "status", a.status, "events", len(events),
		"stored", counts[resultStored], "duplicates", counts[resultDuplicate], "skipped", counts[resultSkipped],
		"refused", counts[resultRefused], "conflicts", counts[resultConflict], "unstored", counts[resultUnstored],
		"duration", took.String(),
	}
	if a.problem != nil {
		fields = append(fields, "problem", a.problem.Type)
	}
	return fields
}

// answer returns the answer to a request, and what it was about as far as that is known.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (namespace string, events []eventResult, a *answer) {
	defer func() {
		if cause := recover(); cause != nil {
			a = refuse(internalError, "The request could not be handled. Sending the same events again, with the same ids, is safe.").closing()
			s.options.Log.Error(errors.New("panic"), "Request not handled", "instance", a.problem.Instance,
				"cause", cause, "stack", string(debug.Stack()))
		}
	}()
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		a = refuse(overloaded, "More than %d requests are being handled: send the request again later.", s.options.MaxInFlight)
		a.retryAfter = retryOverloaded
		return "", nil, a
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.options.requestTimeout)
	defer cancel()
	namespace, a = s.target(r)
	if a != nil {
		return namespace, nil, a
	}
	caller, a := s.admit(ctx, r, namespace)
	if a != nil {
		return namespace, nil, a
	}
	// Only of those who may post: others could fill the traces.
	ctx, span := s.options.Traces.Request(ctx, r.Header, namespace)
	defer func() {
		if a != nil {
			span.EndRequest(a.status, a.kind, len(events))
		} else {
			span.EndRequest(http.StatusInternalServerError, internalError.name, 0) // The deferred recover answers so.
		}
	}()
	if !s.options.Watched.Has(namespace) {
		return namespace, nil, refuse(namespaceNotWatched, "The operator does not work for namespace %s, so that no Postback of it gets events. Whoever runs the operator can have it do so, by --%s.", namespace, watched.Flag)
	}
	if !s.options.Synced() {
		a = refuse(notReady, "The Postbacks are not loaded yet. Nothing was stored: send the request again later.")
		a.retryAfter = retryNotReady
		return namespace, nil, a
	}
	posted, cloudEvents, a := s.read(w, r, namespace)
	if a != nil {
		eventsTotal.WithLabelValues(string(resultInvalid)).Inc()
		return namespace, nil, a
	}
	// The first event was charged before the body was read.
	if a = s.charge(caller, len(posted)-1, 1); a != nil {
		return namespace, nil, a
	}
	events = s.store(ctx, namespace, posted)
	countEvents(events)
	a = answerTo(events)
	if cloudEvents && a.problem == nil && !wantsBody(r.Header) {
		a.body = nil
	}
	s.report(r, namespace, events, a)
	hold(ctx, events)
	return namespace, events, a
}

// report logs what could not be stored, once for a request.
func (s *Server) report(r *http.Request, namespace string, events []eventResult, a *answer) {
	count, err := unstored(events)
	if count == 0 {
		return
	}
	if r.Context().Err() != nil {
		s.options.Log.V(1).Info("Producer gone before everything was stored", "namespace", namespace, "unstored", count)
		return
	}
	s.options.Log.Error(err, "Events not stored: the producer is asked to send them again", "namespace", namespace,
		"unstored", count, "instance", a.problem.Instance)
}

// target returns the namespace for which events are posted, or an answer if none are.
func (s *Server) target(r *http.Request) (string, *answer) {
	// Not http.ServeMux, which answers with redirects and plain text of its own.
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/namespaces/")
	namespace, resource, two := strings.Cut(rest, "/")
	if !ok || !two || resource != "events" {
		return "", refuse(notFound, "Post events to /v1/namespaces/{namespace}/events.")
	}
	if a := s.handshake(r); a != nil {
		return "", a
	}
	if r.Method != http.MethodPost {
		return "", refuse(methodNotAllowed, "Events are posted: use POST.").with("Allow", http.MethodPost)
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return "", refuse(invalidNamespace, "The namespace in the path must be 1 to 63 lower-case letters, digits and -, and begin and end with a letter or digit.")
	}
	return namespace, nil
}

// read returns the events that a request holds, and whether they are CloudEvents, or a refusal.
func (s *Server) read(w http.ResponseWriter, r *http.Request, namespace string) (posted []event.Posted, cloudEvents bool, a *answer) {
	if a := checkEncoding(r.Header); a != nil {
		return nil, false, a
	}
	d, a := newDecoder(r.Header, namespace)
	if a != nil {
		return nil, false, a
	}
	body, a := s.readBody(w, r)
	if a != nil {
		return nil, false, a
	}
	posted, err := d.decode(body, s.options.Clock.Now())
	if err != nil {
		return nil, false, invalidAnswer(err)
	}
	return posted, d.cloudEvents, nil
}

func invalidAnswer(err error) *answer {
	where := ""
	if invalid, ok := errors.AsType[*event.InvalidError](err); ok {
		where = invalid.Pointer
	}
	a := refuse(invalidEvent, "%s", err.Error())
	a.problem.Pointer = &where
	return a
}

func checkEncoding(header http.Header) *answer {
	for _, encoding := range header.Values("Content-Encoding") {
		if !strings.EqualFold(encoding, "identity") {
			return refuse(unsupportedEncoding, "Send the body as it is, without Content-Encoding.").with("Accept-Encoding", "identity")
		}
	}
	return nil
}

// idMaker returns what makes the ids of events that come without one. With an Idempotency-Key they depend on it, the
// namespace and the event's place, so that sending the request again gives the same ids.
func idMaker(header http.Header, namespace string) (func(index int) string, *answer) {
	keys := header.Values(idempotencyKeyHeader)
	if len(keys) == 0 {
		return func(int) string { return event.NewID() }, nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, notPrintable) {
		return nil, refuse(invalidIdempotencyKey, "Send one %s of 1 to %d printable ASCII characters, or none.", idempotencyKeyHeader, maxIdempotencyKey)
	}
	return func(index int) string {
		return event.DerivedID("idempotency", namespace, key, strconv.Itoa(index))
	}, nil
}

func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// readBody returns the body, or a refusal if it is over the limit, too slow or incomplete. It reads at most one byte
// more than the limit.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	limit := s.options.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	// Room for all of a body of usual size, and for the read that finds its end; what is announced is not there yet.
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), usualBody)) + bytes.MinRead)
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body.Bytes(), nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refuse(bodyTooSlow, "The body was not complete within %s: send fewer events at once.", s.options.readTimeout).closing()
	}
	return nil, invalidAnswer(errors.New("the body is not complete: send the whole of it")).closing()
}

func tooLarge(limit int64) *answer {
	return refuse(bodyTooLarge, "The body is larger than %d bytes: send fewer events at once, or less data.", limit).closing()
}
