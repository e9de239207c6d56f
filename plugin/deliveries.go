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

package plugin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// pageSize is how many deliveries are read at a time: one may be larger than a megabyte.
const pageSize = 250

// Fields of a PostbackDelivery that the API server selects by.
const (
	postbackField  = "spec.postbackRef.name"
	eventTypeField = "spec.event.type"
	phaseField     = "status.phase"
)

// eachDelivery gives deliveries to a function, in no particular order. It holds a page of them at a time.
func (s *scope) eachDelivery(ctx context.Context, f func(*v1alpha1.PostbackDelivery), options ...client.ListOption) error {
	next := ""
	for {
		page := &v1alpha1.PostbackDeliveryList{}
		if err := s.List(ctx, page, append(slices.Clone(options), client.Limit(pageSize), client.Continue(next))...); err != nil {
			return err
		}
		for i := range page.Items {
			f(&page.Items[i])
		}
		if next = page.Continue; next == "" {
			return nil
		}
	}
}

// query selects deliveries.
type query struct {
	namespace, postback, event string
	// failed selects those that failed, for good or for now; undelivered also those that were not attempted yet.
	failed, undelivered bool
	since               time.Time
	limit               int
}

// selector returns the part of the query that the API server answers.
func (q query) selector() fields.Selector {
	set := fields.Set{}
	if q.postback != "" {
		set[postbackField] = q.postback
	}
	if q.event != "" {
		set[eventTypeField] = q.event
	}
	selector := set.AsSelector()
	if q.failed || q.undelivered {
		selector = fields.AndSelectors(selector, fields.OneTermNotEqualSelector(phaseField, string(v1alpha1.DeliveryDelivered)))
	}
	return selector
}

// takes reports whether a delivery that the selector found is meant.
func (q query) takes(d *v1alpha1.PostbackDelivery) bool {
	switch {
	case d.CreationTimestamp.Time.Before(q.since):
		return false
	case q.failed:
		return d.Status.Phase == v1alpha1.DeliveryFailed || d.Status.Phase == v1alpha1.DeliveryRetrying
	}
	return true
}

// newestFirst orders deliveries by when they were made. Creation times have a second's precision; the event's own time
// decides among those of one second.
func newestFirst(a, b *v1alpha1.PostbackDelivery) int {
	return cmp.Or(
		b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
		b.Spec.Event.CreatedAt.Compare(a.Spec.Event.CreatedAt.Time),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
	)
}

// found are the deliveries that a query selects.
type found struct {
	newest []*v1alpha1.PostbackDelivery
	// total is the number of counted deliveries; more is true if the delivery log has further ones.
	total int
	more  bool
	// logVersion is the state of that log, or "" if there is none.
	logVersion string
}

// deliveries returns the newest that a query selects. Never more than a page beyond the limit is held, and no bodies unless
// they are wanted. A function, if there is one, gets to see each.
func (s *scope) deliveries(ctx context.Context, q query, bodies bool, each func(*v1alpha1.PostbackDelivery)) (found, error) {
	f := found{}
	known := map[client.ObjectKey]bool{}
	take := func(d *v1alpha1.PostbackDelivery) {
		if key := client.ObjectKeyFromObject(d); !q.takes(d) || known[key] {
			return
		} else if known[key] = true; each != nil {
			each(d)
		}
		f.total++
		if !bodies {
			d.Spec.Body = ""
		}
		f.newest = append(f.newest, d.DeepCopy())
		if q.limit > 0 && len(f.newest) >= q.limit+pageSize {
			slices.SortFunc(f.newest, newestFirst)
			f.newest = slices.Clip(f.newest[:q.limit])
		}
	}
	err := s.eachDelivery(ctx, take, client.InNamespace(q.namespace), client.MatchingFieldsSelector{Selector: q.selector()})
	if err == nil {
		// A redelivered event is in both: the PostbackDelivery tells more.
		s.logged(ctx, q, &f, take)
	}
	slices.SortFunc(f.newest, newestFirst)
	if q.limit > 0 && len(f.newest) > q.limit {
		f.newest = f.newest[:q.limit]
	}
	return f, err
}

// isMissingObject reports whether an object is not there.
func isMissingObject(err error) bool { return apierrors.IsNotFound(err) && !isNoSuchKind(err) }

// isMissing reports whether an object is not there, or cannot be by its name.
func isMissing(err error) bool {
	return isMissingObject(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}
