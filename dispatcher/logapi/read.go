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

package logapi

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
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

const (
	defaultPage = 100
	decimal     = 10
)

// These are the parameters of a query.
const (
	postbackParam        = "postback"
	eventParam           = "event"
	eventIDParam         = "eventID"
	nameParam            = "name"
	prefixParam          = "prefix"
	sinceParam           = "since"
	limitParam           = "limit"
	continueParam        = "continue"
	watchParam           = "watch"
	resourceVersionParam = "resourceVersion"
)

// logQuery parses the parameters of a query. It refuses unknown parameters, because ignoring one would change the
// answer.
func logQuery(namespace string, values url.Values) (q deliverylog.Query, err error) {
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
		case nameParam:
			q.Name = value
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
	if q.Namespace == "" && (q.Postback != "" || q.EventID != "" || q.Name != "") {
		return q, fmt.Errorf("%s, %s and %s need a namespace in the path", postbackParam, eventIDParam, nameParam)
	}
	return q, nil
}

// number parses a numeric parameter, or returns the fallback if it is absent.
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

// lister lists deliveries of a stream.
type lister func(ctx context.Context, q deliverylog.Query, before uint64, limit int) (deliverylog.Page, error)

// list answers with a page of a stream, newest first.
func (h *Handler) list(ctx context.Context, r *http.Request, q *logRequest, lister lister) *problem.Answer {
	values := r.URL.Query()
	query, err := logQuery(q.namespace, values)
	limit, err2 := number(values, limitParam, defaultPage)
	before, err3 := number(values, continueParam, 0)
	for _, err := range []error{err, err2, err3} {
		if err != nil {
			return problem.Refuse(problem.InvalidQuery, "%s.", err.Error())
		}
	}
	page, err := lister(ctx, query, before, int(min(limit, deliverylog.MaxLimit)))
	if err != nil {
		return h.unreadable(r, err)
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
	return &problem.Answer{Status: http.StatusOK, Body: list}
}

// logged returns an entry of the delivery log, or an answer if it does not exist.
func (h *Handler) logged(ctx context.Context, r *http.Request, q *logRequest) (*v1alpha1.PostbackDelivery, *problem.Answer) {
	d, err := h.options.Reader.Get(ctx, q.namespace, q.name)
	switch {
	case err != nil:
		return nil, h.unreadable(r, err)
	case d == nil:
		return nil, problem.Refuse(problem.NoDelivery, "The delivery log has no delivery %q in namespace %s.", q.name, q.namespace)
	}
	return d, nil
}

func (h *Handler) getLogged(ctx context.Context, r *http.Request, q *logRequest) *problem.Answer {
	d, a := h.logged(ctx, r, q)
	if a != nil {
		return a
	}
	return &problem.Answer{Status: http.StatusOK, Body: withKind(d)}
}

func withKind(d *v1alpha1.PostbackDelivery) *v1alpha1.PostbackDelivery {
	d.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	return d
}

// restore creates the PostbackDelivery of an entry, so that the caller can request its redelivery by an annotation,
// with the caller's own rights. It does not change an existing PostbackDelivery.
func (h *Handler) restore(ctx context.Context, r *http.Request, q *logRequest) *problem.Answer {
	if a := h.restoredBefore(ctx, r, q); a != nil {
		return a
	}
	d, a := h.logged(ctx, r, q)
	if a != nil {
		return a
	}
	attempt := delivery.Newest(d)
	d.Status, d.ResourceVersion, d.UID = v1alpha1.PostbackDeliveryStatus{}, "", ""
	if err := h.options.API.Create(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
		return h.notRestored(r, q, err)
	}
	// If this process dies here, the elected replica finds no first attempt and makes one. The attempt does no
	// harm, because the caller is about to request a redelivery.
	restored, err := h.options.Recorder.Record(ctx, d, func(d *v1alpha1.PostbackDelivery) {
		delivery.Apply(d, &route.Route{}, *attempt, delivery.Request{})
	})
	if err != nil {
		return h.notRestored(r, q, err)
	}
	h.options.Log.Info("Restored a PostbackDelivery from the delivery log", audit.Key, audit.DeliveryRestoredAction,
		"namespace", q.namespace, "delivery", q.name, "user", q.user)
	return &problem.Answer{Status: http.StatusCreated, Body: withKind(restored)}
}

// restoredBefore answers a request to restore a delivery if its PostbackDelivery exists, because the request repeats
// an earlier one, or if the API server does not tell. Otherwise it returns nil.
func (h *Handler) restoredBefore(ctx context.Context, r *http.Request, q *logRequest) *problem.Answer {
	existing, err := h.object(ctx, q)
	switch {
	case err != nil:
		return h.notRestored(r, q, err)
	case existing != nil:
		return &problem.Answer{Status: http.StatusOK, Body: withKind(existing)}
	}
	return nil
}

// object returns the PostbackDelivery of a request, or nil.
func (h *Handler) object(ctx context.Context, q *logRequest) (*v1alpha1.PostbackDelivery, error) {
	existing := &v1alpha1.PostbackDelivery{}
	err := h.options.API.Get(ctx, client.ObjectKey{Namespace: q.namespace, Name: q.name}, existing)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return existing, nil
}

func (h *Handler) notRestored(r *http.Request, q *logRequest, err error) *problem.Answer {
	if kind, message := refusal.Of(err); kind != refusal.Forbidden && intake.Reason(kind).Lasting() {
		return problem.Refuse(problem.DeliveryRefused, "The Kubernetes API refuses PostbackDelivery %q (%s): %s", q.name, kind, message)
	}
	a := problem.Refuse(problem.NotRestored, "The Kubernetes API did not store PostbackDelivery %q: send the request again later. Repeating it is safe.", q.name)
	if r.Context().Err() == nil {
		h.options.Log.Error(err, "A delivery could not be restored from the delivery log", "namespace", q.namespace, "delivery", q.name, "instance", a.Problem.Instance)
	}
	return a
}
