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
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/ingest/access"
	"github.com/postback-dev/postback-operator/dispatcher/successlog"
	"github.com/postback-dev/postback-operator/internal/metric"
)

// Successes is the log of successes.
type Successes interface {
	List(ctx context.Context, q successlog.Query, before uint64, limit int) (successlog.Page, error)
	// Get returns nil if there is no such delivery.
	Get(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error)
	// Newest returns the place of what was logged last.
	Newest(ctx context.Context) (place uint64, err error)
	Follow(ctx context.Context, q successlog.Query, after uint64, tell func(place uint64, d *v1alpha1.PostbackDelivery) error) error
}

// Rights says who a caller is and whether they have a right.
type Rights interface {
	// Allow returns the name of the user whose bearer token it is, if they have a right. Its errors are those of Access.
	Allow(ctx context.Context, token string, right access.Right) (user string, err error)
}

// Recorder records attempts of PostbackDeliveries.
type Recorder interface {
	Record(ctx context.Context, d *v1alpha1.PostbackDelivery, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error)
}

// Bounds of the requests for the log. They have their own, so that whoever reads does not keep events out.
const (
	maxReads     = 8
	maxWatches   = 64
	readRate     = 20.0
	readBurst    = 60
	logTimeout   = 10 * time.Second
	retryLog     = time.Second
	retryWatch   = 10 * time.Second
	logResource  = "deliveries"
	restoreVerb  = "restore"
	deliveryKind = "postbackdeliveries"
)

// The verbs of the log, as the metric has them.
const (
	listLog    = "list"
	getLog     = "get"
	watchLog   = "watch"
	restoreLog = "restore"
)

var logRequests = metric.Dispatcher.Counters("postback_log_requests_total",
	"Requests for the log of successes, by what was asked and whether it was answered, refused, or failed here.",
	metric.Label{Name: "verb", Values: []string{listLog, getLog, watchLog, restoreLog}},
	metric.Label{Name: "result", Values: []string{"Answered", "Refused", "Failed"}})

// logRequest is what a request for the log asks.
type logRequest struct {
	verb, namespace, name string
	right                 access.Right
	// user is who asks.
	user string
}

// logTarget returns what a request for the log asks, or an answer if that is not clear. ours is false if the path is none of
// the log.
func logTarget(r *http.Request) (q *logRequest, ours bool, a *answer) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok {
		return nil, false, nil
	}
	q = &logRequest{verb: listLog}
	if tail, ok := strings.CutPrefix(rest, "namespaces/"); ok {
		q.namespace, rest, _ = strings.Cut(tail, "/")
		if len(validation.IsDNS1123Label(q.namespace)) > 0 {
			return nil, false, nil
		}
	}
	parts := strings.Split(rest, "/")
	if parts[0] != logResource {
		return nil, false, nil
	}
	method := http.MethodGet
	switch {
	case len(parts) == 1:
		if r.URL.Query().Get("watch") == "true" {
			q.verb = watchLog
		}
	case q.namespace == "" || parts[1] == "" || len(parts) > 3 || len(parts) == 3 && parts[2] != restoreVerb:
		return nil, true, refuse(notFound, "Read the log of successes at /v1/deliveries, and at /v1/namespaces/{namespace}/deliveries, /deliveries/{name} and /deliveries/{name}/restore below it.")
	case len(parts) == 2:
		q.verb, q.name = getLog, parts[1]
	default:
		q.verb, q.name, method = restoreLog, parts[1], http.MethodPost
	}
	if r.Method != method {
		return nil, true, refuse(methodNotAllowed, "Use %s here.", method).with("Allow", method)
	}
	q.right = access.Right{Verb: q.verb, Resource: deliveryKind, Namespace: q.namespace}
	if q.verb == restoreLog {
		// It is for a redelivery, which an annotation asks for.
		q.right.Verb = "patch"
	}
	return q, true, nil
}

// serveLog answers a request for the log of successes. It reports false if it is none.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request) bool {
	q, ours, a := logTarget(r)
	if !ours {
		return false
	}
	if a == nil {
		a = s.answerLog(w, r, q)
		countLog(q.verb, a)
	}
	if a == nil {
		return true // It was a watch.
	}
	if err := a.write(w); err != nil {
		s.options.Log.V(1).Info("Answer not sent", "reason", err.Error())
	}
	return true
}

func countLog(verb string, a *answer) {
	result := "Answered"
	if a != nil && a.problem != nil {
		result = "Refused"
		if a.status >= http.StatusInternalServerError {
			result = "Failed"
		}
	}
	logRequests.WithLabelValues(verb, result).Inc()
}

// answerLog returns the answer to a request for the log, or nil if it has been given.
func (s *Server) answerLog(w http.ResponseWriter, r *http.Request, q *logRequest) (a *answer) {
	defer func() {
		if cause := recover(); cause != nil {
			a = refuse(internalError, "The request could not be handled.").closing()
			s.options.Log.Error(errors.New("panic"), "Request for the log not handled", "instance", a.problem.Instance,
				"cause", cause, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(r.Context(), logTimeout)
	defer cancel()
	if a := s.admitReader(ctx, r, q); a != nil {
		return a
	}
	if s.options.Successes == nil {
		return refuse(noLog, "This installation keeps its deliveries as PostbackDeliveries in the Kubernetes API (--intake=kubernetes): all that there is, is there.")
	}
	if !s.options.Synced() {
		a := refuse(notReady, "The Postbacks are not loaded yet: send the request again later.")
		a.retryAfter = retryNotReady
		return a
	}
	room, retry := s.reads, retryLog
	if q.verb == watchLog {
		room, retry = s.watches, retryWatch
	}
	select {
	case room <- struct{}{}:
		defer func() { <-room }()
	default:
		a := refuse(overloaded, "More than %d read the log: send the request again later.", cap(room))
		a.retryAfter = retry
		return a
	}
	switch q.verb {
	case getLog:
		return s.getLogged(ctx, r, q)
	case restoreLog:
		return s.restore(ctx, r, q)
	case watchLog:
		return s.watchLogged(w, r, q)
	}
	return s.listLogged(ctx, r, q)
}

// admitReader finds out who asks, and refuses those who may not, or ask too often.
func (s *Server) admitReader(ctx context.Context, r *http.Request, q *logRequest) *answer {
	if s.options.Readers == nil {
		q.user = r.RemoteAddr // On loopback, without authentication.
		return nil
	}
	token, ok := bearerToken(r.Header)
	if !ok {
		return refuse(unauthenticated, "Send your token for the Kubernetes API in one header, Authorization: Bearer <token>.").
			with("WWW-Authenticate", realm)
	}
	user, err := s.options.Readers.Allow(ctx, token, q.right)
	if unknown, ok := errors.AsType[*access.UnauthenticatedError](err); ok {
		return refuse(unauthenticated, "%s", unknown.Detail).with("WWW-Authenticate", realm+`, error="invalid_token"`)
	}
	if forbidden, ok := errors.AsType[*access.ForbiddenError](err); ok {
		return refuse(forbiddenReader, "%s.", forbidden.Error())
	}
	if err != nil {
		a := refuse(accessUnknown, "The Kubernetes API did not say whether you may: send the request again later.")
		a.retryAfter = retryAccess
		if r.Context().Err() == nil {
			s.options.Log.Error(err, "Cannot tell whether a caller may read the log", "instance", a.problem.Instance)
		}
		return a
	}
	if wait, ok := s.readPace.Take(user, 1, 0); !ok {
		a := refuse(rateLimited, "More than %v requests for the log per second are not taken from one user: send the request again later.", readRate)
		a.retryAfter = wait
		return a
	}
	q.user = user
	return nil
}

// unreadable is the answer when the log cannot be read.
func (s *Server) unreadable(r *http.Request, err error) *answer {
	a := refuse(logUnavailable, "The log of successes cannot be read now. It is kept; send the request again later.")
	a.retryAfter = retryLog
	if r.Context().Err() == nil {
		s.options.Log.Error(err, "Cannot read the log of successes", "instance", a.problem.Instance)
	}
	return a
}
