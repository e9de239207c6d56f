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

package deliveries

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// objectPage is the number of PostbackDeliveries in one list request: one may be larger than a megabyte.
const objectPage = 250

// Reader reads PostbackDeliveries, the delivery log and the waiting stream together. If a delivery has several
// copies, it returns the PostbackDelivery, which has the latest attempts, or else the log entry.
type Reader struct {
	API client.Reader
	// Log is nil if there is no delivery log, or if it cannot be read.
	Log *Client
}

// Page is the answer to a query. It is complete unless More, Truncated or Unread says otherwise.
type Page struct {
	// Deliveries are the newest first. They have no bodies unless the caller asked for them.
	Deliveries []*v1alpha1.PostbackDelivery
	// Total is the number of deliveries that were found, which may exceed the limit. More says that the delivery log
	// has more. Truncated says that the search in it stopped early.
	Total           int
	More, Truncated bool
	// Version is the version of the delivery log, for Follow, or "" if the delivery log was not read.
	Version string
	// Unread is the error of reading the streams, or nil. If it is set, deliveries may be missing.
	Unread error
}

// List returns the newest deliveries that a query selects. It keeps at most one page beyond the limit in memory.
// each, unless nil, is called with every delivery that is found.
func (l *Reader) List(ctx context.Context, q Query, bodies bool, each func(*v1alpha1.PostbackDelivery)) (*Page, error) {
	p := &Page{}
	known := map[types.NamespacedName]bool{}
	add := func(d *v1alpha1.PostbackDelivery) {
		// An object hides its entry in the delivery log even if the query does not select it.
		key := client.ObjectKeyFromObject(d)
		if known[key] {
			return
		}
		known[key] = true
		if !q.Selects(d) {
			return
		}
		if each != nil {
			each(d)
		}
		p.Total++
		if !bodies {
			d.Spec.Body = ""
		}
		p.Deliveries = append(p.Deliveries, d.DeepCopy())
		if q.Limit > 0 && len(p.Deliveries) >= q.Limit+objectPage {
			p.sort(q.Limit)
		}
	}
	waiting, err := l.waiting(ctx, q, p, bodies)
	if err != nil {
		return nil, err
	}
	if err := EachObject(ctx, l.API, q, add); err != nil {
		return nil, err
	}
	err = l.eachLogged(ctx, q, p, add)
	for _, d := range waiting {
		add(d)
	}
	p.sort(q.Limit)
	return p, err
}

// sort sorts the deliveries, newest first, and drops those beyond the limit.
func (p *Page) sort(limit int) {
	slices.SortFunc(p.Deliveries, func(a, b *v1alpha1.PostbackDelivery) int { return PlaceOf(a).Compare(PlaceOf(b)) })
	if limit > 0 && len(p.Deliveries) > limit {
		p.Deliveries = slices.Clip(p.Deliveries[:limit])
	}
}

// EachObject calls f with each PostbackDelivery that the API server selects by a query, in no particular order. It
// keeps one page in memory.
func EachObject(ctx context.Context, api client.Reader, q Query, f func(*v1alpha1.PostbackDelivery)) error {
	options := &client.ListOptions{Namespace: q.Namespace, Limit: objectPage}
	if selector := q.Selector(); !selector.Empty() {
		options.FieldSelector = selector
	}
	for {
		page := &v1alpha1.PostbackDeliveryList{}
		if err := api.List(ctx, page, options); err != nil {
			return err
		}
		for i := range page.Items {
			f(&page.Items[i])
		}
		if options.Continue = page.Continue; page.Continue == "" {
			return nil
		}
	}
}

// eachLogged calls f with the deliveries of the delivery log that a query selects. It returns only the error of the
// context, and puts an error of the delivery log into the page.
func (l *Reader) eachLogged(ctx context.Context, q Query, p *Page, f func(*v1alpha1.PostbackDelivery)) error {
	if l.Log == nil || q.Failed || q.Undelivered || q.Unfinished || p.Unread != nil {
		return nil
	}
	if err := l.Log.each(ctx, logResource, q, p, f); err != nil && !IsNoLog(err) {
		p.Unread = err
	}
	return ctx.Err()
}

// waiting returns the deliveries of the waiting stream that a query selects. Callers read it first: a delivery is
// stored elsewhere before it leaves this stream, so none is missed. Errors are handled as in eachLogged.
func (l *Reader) waiting(ctx context.Context, q Query, p *Page, bodies bool) (waiting []*v1alpha1.PostbackDelivery, err error) {
	if l.Log == nil || !q.Waiting || p.Unread != nil {
		return nil, nil
	}
	err = l.Log.each(ctx, waitingResource, q, p, func(d *v1alpha1.PostbackDelivery) {
		if !bodies {
			d.Spec.Body = ""
		}
		waiting = append(waiting, d.DeepCopy())
	})
	if err != nil && !hasNoWaiting(err) {
		p.Unread = err
	}
	return waiting, ctx.Err()
}

// hasNoWaiting reports whether a dispatcher has no waiting stream, or is of an earlier version that cannot list it.
func hasNoWaiting(err error) bool { return IsNoLog(err) || isProblem(err, "not-found") }

// Get returns a delivery from the API server or the delivery log. If both lack it, the error is NotFound. If the
// delivery log cannot be read, the error is an UnreadError.
func (l *Reader) Get(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	missing := l.API.Get(ctx, key, d)
	if l.Log == nil || !apierrors.IsNotFound(missing) {
		return d, missing
	}
	d, err := l.Log.Get(ctx, key.Namespace, key.Name)
	switch {
	case err == nil:
		return d, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case IsNotFound(err), IsNoLog(err):
		return nil, missing
	}
	return nil, &UnreadError{err}
}

// GetOf is Get for a delivery of a known Postback, and also reads the waiting stream.
func (l *Reader) GetOf(ctx context.Context, key types.NamespacedName, postback string) (*v1alpha1.PostbackDelivery, error) {
	d, err := l.Get(ctx, key)
	if l.Log == nil || !apierrors.IsNotFound(err) {
		return d, err
	}
	switch waiting, err := l.Log.Waiting(ctx, key.Namespace, postback, key.Name); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &UnreadError{err}
	case waiting != nil:
		return waiting, nil
	}
	return l.Get(ctx, key) // It may have left the stream meanwhile.
}

// UnreadError means that the delivery log, which may hold the delivery, could not be read.
type UnreadError struct{ Err error }

// Error implements error.
func (e *UnreadError) Error() string { return "the delivery log cannot be read: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreadError) Unwrap() error { return e.Err }

// Find returns the deliveries of the event with an id. If there are none, it returns those whose name or event id
// begins with it. limit bounds those from each stream. The order is undefined. each is called with every
// PostbackDelivery of the namespace.
func (l *Reader) Find(ctx context.Context, namespace, name string, limit int, each func(*v1alpha1.PostbackDelivery)) (*Page, error) {
	p := &Page{}
	known, exact := map[string]bool{}, false
	add := func(d *v1alpha1.PostbackDelivery) {
		if !known[d.Name] {
			known[d.Name], exact = true, exact || d.Spec.Event.ID == name
			p.Deliveries = append(p.Deliveries, d.DeepCopy())
		}
	}
	err := EachObject(ctx, l.API, Query{Namespace: namespace}, func(d *v1alpha1.PostbackDelivery) {
		each(d)
		if strings.HasPrefix(d.Spec.Event.ID, name) || strings.HasPrefix(d.Name, name) {
			add(d)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, q := range []Query{{EventID: name}, {Prefix: name, Limit: limit}} {
		q.Namespace, q.Waiting = namespace, true
		waiting, err := l.waiting(ctx, q, p, true)
		if err != nil {
			return p, err
		}
		if err := l.eachLogged(ctx, q, p, add); err != nil {
			return p, err
		}
		for _, d := range waiting {
			add(d)
		}
		if exact {
			return p, nil
		}
	}
	return p, nil
}
