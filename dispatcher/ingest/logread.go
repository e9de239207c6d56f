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
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/route"
	"github.com/postback-dev/postback-operator/dispatcher/successlog"
	"github.com/postback-dev/postback-operator/internal/audit"
)

const (
	defaultPage = 100
	decimal     = 10
)

// The parameters of a query.
const (
	postbackParam        = "postback"
	eventParam           = "event"
	eventIDParam         = "eventID"
	prefixParam          = "prefix"
	sinceParam           = "since"
	limitParam           = "limit"
	continueParam        = "continue"
	watchParam           = "watch"
	resourceVersionParam = "resourceVersion"
)

// logQuery reads what a query selects. A parameter that is not known is refused: without it the answer would be another one.
func logQuery(namespace string, values url.Values) (q successlog.Query, err error) {
	q.Namespace = namespace
	for name := range values {
		value := values.Get(name)
		switch name {
		case postbackParam:
			q.Postback = value
		case eventParam:
			q.EventType = value
		case eventIDParam:
			q.EventID = value
		case prefixParam:
			q.Prefix = value
		case sinceParam:
			if q.Since, err = time.Parse(time.RFC3339, value); err != nil {
				return q, fmt.Errorf("%s must be a time in RFC 3339, not %q", sinceParam, value)
			}
		case limitParam, continueParam, watchParam, resourceVersionParam:
		default:
			return q, fmt.Errorf("there is no parameter %q", name)
		}
	}
	if q.Namespace == "" && (q.Postback != "" || q.EventID != "") {
		return q, fmt.Errorf("%s and %s need a namespace in the path", postbackParam, eventIDParam)
	}
	return q, nil
}

// number reads a number of a query, or returns the fallback if there is none.
func number(values url.Values, name string, fallback uint64) (uint64, error) {
	text := values.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(text, decimal, 63)
	if err != nil {
		return 0, fmt.Errorf("%s must be a number, not %q", name, text)
	}
	return n, nil
}

// listLogged answers with a page of the log, the newest first.
func (s *Server) listLogged(ctx context.Context, r *http.Request, q *logRequest) *answer {
	values := r.URL.Query()
	query, err := logQuery(q.namespace, values)
	limit, err2 := number(values, limitParam, defaultPage)
	before, err3 := number(values, continueParam, 0)
	for _, err := range []error{err, err2, err3} {
		if err != nil {
			return refuse(invalidQuery, "%s.", err.Error())
		}
	}
	page, err := s.options.Successes.List(ctx, query, before, int(min(limit, successlog.MaxLimit)))
	if err != nil {
		return s.unreadable(r, err)
	}
	list := &v1alpha1.PostbackDeliveryList{Items: make([]v1alpha1.PostbackDelivery, len(page.Deliveries))}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
	list.ResourceVersion = strconv.FormatUint(page.Newest, decimal)
	if page.Before > 0 {
		list.Continue = strconv.FormatUint(page.Before, decimal)
	}
	for i, d := range page.Deliveries {
		list.Items[i] = *d
	}
	return &answer{status: http.StatusOK, body: list}
}

// logged returns a delivery as the log has it, or an answer if it has not.
func (s *Server) logged(ctx context.Context, r *http.Request, q *logRequest) (*v1alpha1.PostbackDelivery, *answer) {
	d, err := s.options.Successes.Get(ctx, q.namespace, q.name)
	switch {
	case err != nil:
		return nil, s.unreadable(r, err)
	case d == nil:
		return nil, refuse(noDelivery, "The log of successes has no delivery %q in namespace %s.", q.name, q.namespace)
	}
	return d, nil
}

func (s *Server) getLogged(ctx context.Context, r *http.Request, q *logRequest) *answer {
	d, a := s.logged(ctx, r, q)
	if a != nil {
		return a
	}
	return &answer{status: http.StatusOK, body: withKind(d)}
}

func withKind(d *v1alpha1.PostbackDelivery) *v1alpha1.PostbackDelivery {
	d.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	return d
}

// restore makes a PostbackDelivery of what the log has, so that an annotation can ask for its redelivery, under the caller's
// own rights. One that is there already is left as it is.
func (s *Server) restore(ctx context.Context, r *http.Request, q *logRequest) *answer {
	existing := &v1alpha1.PostbackDelivery{}
	err := s.options.API.Get(ctx, client.ObjectKey{Namespace: q.namespace, Name: q.name}, existing)
	if err == nil {
		return &answer{status: http.StatusOK, body: withKind(existing)}
	}
	if !apierrors.IsNotFound(err) {
		return s.notRestored(r, q, err)
	}
	d, a := s.logged(ctx, r, q)
	if a != nil {
		return a
	}
	attempt := delivery.Newest(d)
	d.Status, d.ResourceVersion, d.UID = v1alpha1.PostbackDeliveryStatus{}, "", ""
	if err := s.options.API.Create(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
		return s.notRestored(r, q, err)
	}
	// If this process dies here, the elected replica takes the first attempt to be missing and makes it: that, too, is a
	// redelivery, which is what the caller is about to ask for.
	restored, err := s.options.Recorder.Record(ctx, d, func(d *v1alpha1.PostbackDelivery) {
		delivery.Apply(d, &route.Route{}, *attempt, delivery.Request{})
	})
	if err != nil {
		return s.notRestored(r, q, err)
	}
	s.options.Log.Info("Made a PostbackDelivery of the log again", audit.Key, audit.DeliveryRestoredAction,
		"namespace", q.namespace, "delivery", q.name, "user", q.user)
	return &answer{status: http.StatusCreated, body: withKind(restored)}
}

func (s *Server) notRestored(r *http.Request, q *logRequest, err error) *answer {
	a := refuse(notRestored, "The Kubernetes API did not store PostbackDelivery %q: send the request again later. It is safe to do so.", q.name)
	a.retryAfter = retryUnstored
	if r.Context().Err() == nil {
		s.options.Log.Error(err, "A delivery of the log could not be restored", "namespace", q.namespace, "delivery", q.name, "instance", a.problem.Instance)
	}
	return a
}
