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
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/decode"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/fault"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// usualBody is the size in bytes up to which the buffer of a body is allocated at once.
const usualBody = 16 << 10

// serve answers a request and logs it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.options.LogDoor != nil && s.options.LogDoor.Serve(w, r) {
		return
	}
	start := s.options.Clock.Now()
	namespace, events, a := s.answer(w, r)
	took := s.options.Clock.Since(start)
	countRequest(a, took)
	if err := a.Write(w); err != nil {
		s.options.Log.V(1).Info("Answer not sent", "namespace", namespace, "reason", err.Error())
	}
	// This runs for every request, so it builds the fields only if the level is enabled.
	if log := s.options.Log.V(1); log.Enabled() {
		log.Info("Answered request", summary(r, namespace, events, a, took)...)
	}
}

// summary returns the keys and values of a request's log line.
func summary(r *http.Request, namespace string, events accept.Results, a *problem.Answer, took time.Duration) []any {
	counts := events.Tally()
	fields := []any{
		"method", r.Method, "namespace", namespace, "status", a.Status, "events", len(events),
		"stored", counts[intake.Stored], "duplicates", counts[intake.Duplicate], "skipped", counts[intake.Skipped],
		"refused", counts[intake.Refused], "conflicts", counts[intake.Conflict], "unstored", counts[intake.Unstored],
		"duration", took.String(),
	}
	if a.Problem != nil {
		fields = append(fields, "problem", a.Problem.Type)
	}
	return fields
}

// answer returns the answer to a request, its namespace and the results of its events, as far as they are known.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (namespace string, events accept.Results, a *problem.Answer) {
	defer fault.Recover(s.options.Log, "Request not handled", func() []any {
		a = problem.Refuse(problem.InternalError, "The request could not be handled. Sending the same events again, with the same ids, is safe.").Closing()
		return []any{"instance", a.Problem.Instance}
	})
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		a = problem.Refuse(problem.Overloaded, "More than %d requests are being handled: send the request again later.", s.options.MaxInFlight)
		return "", nil, a
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.options.requestTimeout)
	defer cancel()
	namespace, a = s.target(r)
	if a != nil {
		return namespace, nil, a
	}
	caller, a := s.authorize(ctx, r, namespace)
	if a != nil {
		return namespace, nil, a
	}
	// Record spans of authorized callers only: others could flood the traces.
	ctx, span := s.options.Traces.Request(ctx, r.Header, namespace)
	defer func() {
		if a != nil {
			span.EndRequest(a.Status, a.Kind, len(events))
		} else {
			span.EndRequest(http.StatusInternalServerError, problem.InternalError.Name, 0) // After a panic, the deferred recover answers so.
		}
	}()
	if !s.options.Watched.Has(namespace) {
		return namespace, nil, problem.Refuse(problem.NamespaceNotWatched, "The operator does not watch namespace %s, so its Postbacks get no events. An administrator of the operator can add it to --%s.", namespace, watched.Flag)
	}
	if !s.options.Acceptor.Synced() {
		a = problem.Refuse(problem.NotReady, "The Postbacks are not loaded yet. Nothing was stored: send the request again later.")
		return namespace, nil, a
	}
	posted, cloudEvents, a := s.read(w, r, namespace)
	if a != nil {
		accept.CountInvalid()
		return namespace, nil, a
	}
	// authorize charged the first event, before the body was read.
	if a = s.charge(caller, len(posted)-1, 1); a != nil {
		return namespace, nil, a
	}
	events, err := s.options.Acceptor.Accept(ctx, namespace, posted)
	if tooMany, ok := errors.AsType[*accept.TooManyError](err); ok {
		return namespace, nil, problem.Refuse(problem.TooManyDeliveries, "The request makes %d deliveries, and one request may make %d: send at most its first %d events at once. Nothing was stored.",
			tooMany.Deliveries, tooMany.Max, tooMany.Fit)
	}
	events.Count()
	a = answerTo(events)
	if cloudEvents && a.Problem == nil && !wantsBody(r.Header) {
		a.Body = nil
	}
	s.report(r, namespace, events, a)
	events.Wait(ctx)
	return namespace, events, a
}

// report logs the unstored deliveries of a request in one line.
func (s *Server) report(r *http.Request, namespace string, events accept.Results, a *problem.Answer) {
	count, err := events.Unstored()
	if count == 0 {
		return
	}
	if r.Context().Err() != nil {
		s.options.Log.V(1).Info("Producer gone before everything was stored", "namespace", namespace, "unstored", count)
		return
	}
	s.options.Log.Error(err, "Events not stored: the producer is asked to send them again", "namespace", namespace,
		"unstored", count, "instance", a.Problem.Instance)
}

// target returns the namespace of the path, or the answer to a request that posts no events.
func (s *Server) target(r *http.Request) (string, *problem.Answer) {
	// http.ServeMux would answer with redirects and plain text.
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/namespaces/")
	namespace, resource, two := strings.Cut(rest, "/")
	if !ok || !two || resource != "events" {
		return "", problem.Refuse(problem.NotFound, "Post events to /v1/namespaces/{namespace}/events.")
	}
	if a := s.handshake(r); a != nil {
		return "", a
	}
	if r.Method != http.MethodPost {
		return "", problem.Refuse(problem.MethodNotAllowed, "Use POST to send events.").With("Allow", http.MethodPost)
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return "", problem.Refuse(problem.InvalidNamespace, "The namespace in the path must be 1 to 63 lower-case letters, digits and -, and begin and end with a letter or digit.")
	}
	return namespace, nil
}

// read returns the events of a request and whether they are CloudEvents, or a refusal.
func (s *Server) read(w http.ResponseWriter, r *http.Request, namespace string) (posted []event.Posted, cloudEvents bool, a *problem.Answer) {
	if a := checkEncoding(r.Header); a != nil {
		return nil, false, a
	}
	d, err := decode.New(textproto.MIMEHeader(r.Header), namespace)
	if err != nil {
		return nil, false, undecodable(err)
	}
	body, a := s.readBody(w, r)
	if a != nil {
		return nil, false, a
	}
	posted, err = d.Decode(body, s.options.Clock.Now())
	if err != nil {
		return nil, false, invalidAnswer(err)
	}
	return posted, d.CloudEvents, nil
}

// undecodable returns the answer to a request whose header allows no decoding of the body.
func undecodable(err error) *problem.Answer {
	if _, ok := errors.AsType[*decode.UnsupportedError](err); ok {
		return problem.Refuse(problem.UnsupportedMediaType, "%s", err.Error()).With("Accept-Post", decode.AcceptedTypes)
	}
	if _, ok := errors.AsType[*decode.InvalidKeyError](err); ok {
		return problem.Refuse(problem.InvalidIdempotencyKey, "%s", err.Error())
	}
	return invalidAnswer(err)
}

func invalidAnswer(err error) *problem.Answer {
	where := ""
	if invalid, ok := errors.AsType[*event.InvalidError](err); ok {
		where = invalid.Pointer
	}
	a := problem.Refuse(problem.InvalidEvent, "%s", err.Error())
	a.Problem.Pointer = &where
	return a
}

func checkEncoding(header http.Header) *problem.Answer {
	for _, encoding := range header.Values("Content-Encoding") {
		if !strings.EqualFold(encoding, "identity") {
			return problem.Refuse(problem.UnsupportedEncoding, "Send the body as it is, without Content-Encoding.").With("Accept-Encoding", "identity")
		}
	}
	return nil
}

// readBody returns the body, or a refusal if it is too large, too slow or incomplete. It reads at most one byte
// beyond the limit.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem.Answer) {
	limit := s.options.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	// Allocate for a usual body and the read that finds its end. The announced length is not to be trusted.
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
		return nil, problem.Refuse(problem.BodyTooSlow, "The body was not complete within %s: send fewer events at once.", s.options.readTimeout).Closing()
	}
	return nil, invalidAnswer(errors.New("the body is incomplete: send all of it")).Closing()
}

func tooLarge(limit int64) *problem.Answer {
	return problem.Refuse(problem.BodyTooLarge, "The body is larger than %d bytes: send fewer events at once, or less data.", limit).Closing()
}

// wantsBody reports whether a producer of CloudEvents accepts a body in the answer. A Knative Broker treats a body
// that is not a CloudEvent as a failure. So the answer has one only if the request accepts its type.
func wantsBody(header http.Header) bool {
	for _, value := range header.Values("Accept") {
		for accepted := range strings.SplitSeq(value, ",") {
			if mediaType, _, err := mime.ParseMediaType(accepted); err == nil && mediaType == "application/json" {
				return true
			}
		}
	}
	return false
}
