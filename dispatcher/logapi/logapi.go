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

// Package logapi is the HTTP door for the delivery log and the waiting stream. It lists, gets and watches entries of the delivery
// log, and restores an entry as a PostbackDelivery. It lists, restores and drops waiting deliveries. dispatcher/httpapi has the server and its TLS.
package logapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/fault"
	"github.com/postback-dev/postback-operator/internal/metric"
	"github.com/postback-dev/postback-operator/internal/pace"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

// Reader reads the delivery log.
type Reader interface {
	List(ctx context.Context, q deliverylog.Query, before uint64, limit int) (deliverylog.Page, error)
	// Get returns nil if the delivery log has no such delivery.
	Get(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error)
	// Newest returns the sequence of the newest entry.
	Newest(ctx context.Context) (sequence uint64, err error)
	Follow(ctx context.Context, q deliverylog.Query, after uint64, receive func(sequence uint64, d *v1alpha1.PostbackDelivery) error) error
}

// Rights authenticates callers and checks their rights.
type Rights interface {
	// Allow returns the name of a bearer token's user if that user has a right. Its errors are those of package
	// access.
	Allow(ctx context.Context, token string, right rbacreview.Right) (user string, err error)
	// AllowCertificate is Allow for the client certificate of a request.
	AllowCertificate(ctx context.Context, r *http.Request, right rbacreview.Right) (user string, err error)
}

// Recorder records attempts of PostbackDeliveries.
type Recorder interface {
	Record(ctx context.Context, d *v1alpha1.PostbackDelivery, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error)
}

// Options configure a Handler. API and Recorder write restored deliveries.
type Options struct {
	// Reader and Waiting are nil if the installation has no delivery log: then each request gets the problem no-log.
	Reader  Reader
	Waiting Waiting
	// Rights authorises readers. If it is nil, everybody may read and restore.
	Rights   Rights
	API      intake.API
	Recorder Recorder
	// Synced reports whether the Postbacks are loaded. The handler refuses requests before. The default is always
	// true.
	Synced func() bool
	// Clock measures the rate of readers. The default is the real clock.
	Clock clock.PassiveClock
	Log   logr.Logger
}

// Handler answers requests for the delivery log. It is safe for concurrent use.
type Handler struct {
	options Options
	// reads, watches and pace bound the requests. stopping is closed when watches have to end.
	reads, watches chan struct{}
	pace           *pace.Limit
	stopping       chan struct{}
}

// New returns a Handler.
func New(o Options) *Handler {
	if o.Synced == nil {
		o.Synced = func() bool { return true }
	}
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	return &Handler{
		options:  o,
		reads:    make(chan struct{}, maxReads),
		watches:  make(chan struct{}, maxWatches),
		pace:     pace.New(readRate, readBurst, o.Clock),
		stopping: make(chan struct{}),
	}
}

// Stop ends the watches. It may be called only once.
func (h *Handler) Stop() { close(h.stopping) }

// AsksForCertificate reports whether readers may present a client certificate. The Handler verifies it with each
// request.
func (h *Handler) AsksForCertificate() bool {
	return h.options.Reader != nil && h.options.Rights != nil
}

// These bounds are separate from those of ingest, so readers do not displace events.
const (
	maxReads     = 8
	maxWatches   = 64
	readRate     = 20.0
	readBurst    = 60
	logTimeout   = 10 * time.Second
	retryRead    = time.Second
	retryWatch   = 10 * time.Second
	logResource  = "deliveries"
	restoreVerb  = "restore"
	deliveryKind = "postbackdeliveries"
)

// These are the verbs of a request, as labels of the metric.
const (
	listLog    = "list"
	getLog     = "get"
	watchLog   = "watch"
	restoreLog = "restore"

	listWaiting    = "list-waiting"
	restoreWaiting = "restore-waiting"
	dropWaiting    = "drop"
	dropAllWaiting = "drop-all"
)

var logRequests = metric.Dispatcher.Counters("postback_log_requests_total",
	"Requests for the delivery log and the waiting stream, by verb and result. Failed is an error of the dispatcher.",
	metric.Label{Name: "verb", Values: []string{listLog, getLog, watchLog, restoreLog, listWaiting, restoreWaiting, dropWaiting, dropAllWaiting}},
	metric.Label{Name: "result", Values: []string{"Answered", "Refused", "Failed"}})

// logRequest is a parsed request for the delivery log.
type logRequest struct {
	verb, namespace, name string
	right                 rbacreview.Right
	// user is the name of the caller.
	user string
}

// logTarget parses the target of a request, or returns an answer to an invalid one. ours is false if the path is not
// of the delivery log.
func logTarget(r *http.Request) (q *logRequest, ours bool, a *problem.Answer) {
	namespace, parts := splitPath(r.URL.Path)
	q = &logRequest{verb: listLog, namespace: namespace}
	switch parts[0] {
	case waitingResource:
		return q, true, q.targetWaiting(r.Method, parts)
	case logResource:
	default:
		return nil, false, nil
	}
	method := http.MethodGet
	switch {
	case len(parts) == 1:
		if r.URL.Query().Get("watch") == "true" {
			q.verb = watchLog
		}
	case q.namespace == "" || parts[1] == "" || len(parts) > 3 || len(parts) == 3 && parts[2] != restoreVerb:
		return nil, true, problem.Refuse(problem.NotFound, "Read the delivery log at /v1/deliveries, and at /v1/namespaces/{namespace}/deliveries, /deliveries/{name} and /deliveries/{name}/restore below it.")
	case len(parts) == 2:
		q.verb, q.name = getLog, parts[1]
	default:
		q.verb, q.name, method = restoreLog, parts[1], http.MethodPost
	}
	if r.Method != method {
		return nil, true, problem.Refuse(problem.MethodNotAllowed, "Use %s here.", method).With("Allow", method)
	}
	q.right = rbacreview.Right{Verb: q.verb, Group: v1alpha1.GroupVersion.Group, Resource: deliveryKind, Namespace: q.namespace}
	if q.verb == restoreLog {
		// A restore precedes a redelivery, whose annotation needs the right to patch.
		q.right.Verb = "patch"
	}
	return q, true, nil
}

// splitPath returns the namespace of a path, or "", and the further parts of the path. The first part is "" if the
// path is not of this API.
func splitPath(path string) (namespace string, parts []string) {
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return "", []string{""}
	}
	if tail, ok := strings.CutPrefix(rest, "namespaces/"); ok {
		namespace, rest, _ = strings.Cut(tail, "/")
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			return "", []string{""}
		}
	}
	return namespace, strings.Split(rest, "/")
}

// Serve answers a request, or returns false if the path is of neither stream.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request) bool {
	q, ours, a := logTarget(r)
	if !ours {
		return false
	}
	if a == nil {
		a = h.answerLog(w, r, q)
		countLog(q.verb, a)
	}
	if a == nil {
		return true // A watch has written its own response.
	}
	if err := a.Write(w); err != nil {
		h.options.Log.V(1).Info("Answer not sent", "reason", err.Error())
	}
	return true
}

func countLog(verb string, a *problem.Answer) {
	result := "Answered"
	if a != nil && a.Problem != nil {
		result = "Refused"
		if a.Status >= http.StatusInternalServerError {
			result = "Failed"
		}
	}
	logRequests.WithLabelValues(verb, result).Inc()
}

// answerLog returns the answer to a request, or nil after a watch, which writes its own response.
func (h *Handler) answerLog(w http.ResponseWriter, r *http.Request, q *logRequest) (a *problem.Answer) {
	defer fault.Recover(h.options.Log, "Request for the delivery log not handled", func() []any {
		a = problem.Refuse(problem.InternalError, "The request could not be handled.").Closing()
		return []any{"instance", a.Problem.Instance}
	})
	ctx, cancel := context.WithTimeout(r.Context(), logTimeout)
	defer cancel()
	if a := h.authorizeReader(ctx, r, q); a != nil {
		return a
	}
	if h.options.Reader == nil {
		return problem.Refuse(problem.NoLog, "This installation has no delivery log (--intake=kubernetes): all its deliveries are PostbackDeliveries in the Kubernetes API.")
	}
	if !h.options.Synced() {
		a := problem.Refuse(problem.NotReady, "The Postbacks are not loaded yet: send the request again later.")
		return a
	}
	room, retry := h.reads, retryRead
	if q.verb == watchLog {
		room, retry = h.watches, retryWatch
	}
	select {
	case room <- struct{}{}:
		defer func() { <-room }()
	default:
		a := problem.Refuse(problem.Overloaded, "More than %d requests are reading the delivery log: send the request again later.", cap(room))
		a.RetryAfter = retry
		return a
	}
	switch q.verb {
	case getLog:
		return h.getLogged(ctx, r, q)
	case restoreLog:
		return h.restore(ctx, r, q)
	case watchLog:
		return h.watchLogged(w, r, q)
	case listWaiting:
		return h.list(ctx, r, q, h.options.Waiting.List)
	case restoreWaiting, dropWaiting, dropAllWaiting:
		return h.actOnWaiting(ctx, r, q)
	}
	return h.list(ctx, r, q, h.options.Reader.List)
}

// authorizeReader authenticates the caller. It refuses callers without the right or above their rate.
func (h *Handler) authorizeReader(ctx context.Context, r *http.Request, q *logRequest) *problem.Answer {
	if h.options.Rights == nil {
		q.user = r.RemoteAddr // Loopback, without authentication.
		return nil
	}
	var user string
	var err error
	switch token, ok := access.BearerToken(r.Header); {
	case ok:
		user, err = h.options.Rights.Allow(ctx, token, q.right)
	case len(r.Header.Values("Authorization")) == 0 && r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		user, err = h.options.Rights.AllowCertificate(ctx, r, q.right)
	default:
		return problem.Refuse(problem.Unauthenticated, "Send your token for the Kubernetes API in one header, Authorization: Bearer <token>, or present a client certificate of the cluster.").
			With("WWW-Authenticate", access.Challenge)
	}
	if unknown, ok := errors.AsType[*access.UnauthenticatedError](err); ok {
		return problem.Refuse(problem.Unauthenticated, "%s", unknown.Detail).With("WWW-Authenticate", access.Challenge+`, error="invalid_token"`)
	}
	if forbidden, ok := errors.AsType[*access.ForbiddenError](err); ok {
		return problem.Refuse(problem.ForbiddenReader, "%s.", forbidden.Error())
	}
	if err != nil {
		a := problem.Refuse(problem.AccessUnknown, "The Kubernetes API did not confirm your right: send the request again later.")
		if r.Context().Err() == nil {
			h.options.Log.Error(err, "Cannot check a caller's right to read the delivery log", "instance", a.Problem.Instance)
		}
		return a
	}
	if wait, ok := h.pace.Acquire(user, 1, 0); !ok {
		a := problem.Refuse(problem.RateLimited, "One user may send %v requests for the delivery log per second: send the request again later.", readRate)
		a.RetryAfter = wait
		return a
	}
	q.user = user
	return nil
}

// unreadable returns the answer if the delivery log cannot be read.
func (h *Handler) unreadable(r *http.Request, err error) *problem.Answer {
	a := problem.Refuse(problem.LogUnavailable, "The delivery log cannot be read now. Nothing of it is lost: send the request again later.")
	if r.Context().Err() == nil {
		h.options.Log.Error(err, "Cannot read the delivery log", "instance", a.Problem.Instance)
	}
	return a
}
