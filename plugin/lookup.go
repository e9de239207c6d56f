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
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/history"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// lookup is the result of looking up a name that a user typed.
type lookup struct {
	// deliveries are the one delivery with that name, or those of one event, sorted by Postback.
	deliveries []*v1alpha1.PostbackDelivery
	// kept maps each Postback to the time since which its deliveries are kept. It is nil unless all deliveries were
	// searched.
	kept map[string]*history.Kept
}

// lookup finds a delivery by its name, the deliveries of an event by its id, or either by an unambiguous prefix.
// postback restricts the search to one Postback unless it is "".
func (s *scope) lookup(ctx context.Context, name, postback string, now time.Time) (*lookup, error) {
	for _, prefix := range []string{"postbackdelivery/", "pbd/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	name = strings.TrimSuffix(name, "…")
	if name == "" {
		return nil, errors.New("name a delivery or an event")
	}
	of := func(d *v1alpha1.PostbackDelivery) bool { return postback == "" || d.Spec.PostbackRef.Name == postback }
	d, err := s.named(ctx, name)
	if err != nil {
		return nil, err
	}
	if d != nil && of(d) {
		return &lookup{deliveries: []*v1alpha1.PostbackDelivery{d}}, nil
	}
	found, kept, err := s.search(ctx, name)
	if err != nil {
		return nil, err
	}
	l := &lookup{kept: kept}
	l.deliveries, err = choose(found, name, of)
	if err == nil && len(l.deliveries) == 0 {
		err = s.notFound(ctx, l, found, name, postback, now)
	}
	return l, err
}

// search returns the deliveries whose name or event id begins with name, and since when the deliveries of each
// Postback are kept.
func (s *scope) search(ctx context.Context, name string) (found []*v1alpha1.PostbackDelivery, kept map[string]*history.Kept, err error) {
	kept = map[string]*history.Kept{}
	log := s.log.open(ctx, s)
	page, err := log.Find(ctx, s.namespace, name, maxSuggested+1, func(d *v1alpha1.PostbackDelivery) {
		if kept[d.Spec.PostbackRef.Name] == nil {
			kept[d.Spec.PostbackRef.Name] = &history.Kept{}
		}
		kept[d.Spec.PostbackRef.Name].Add(d)
	})
	if err != nil {
		return nil, nil, err
	}
	s.log.warn(page)
	if page.Version != "" || s.log != nil && s.log.unread != nil {
		kept = nil // Most delivered events are in the delivery log, which has its own retention.
	}
	return page.Deliveries, kept, nil
}

// named returns the delivery with a name, or nil.
func (s *scope) named(ctx context.Context, name string) (*v1alpha1.PostbackDelivery, error) {
	// The id of an event may contain a slash, which no name of an object does.
	if strings.Contains(name, "/") {
		return nil, nil
	}
	d, err := s.log.open(ctx, s).Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name})
	if unread, ok := errors.AsType[*deliveries.UnreadError](err); ok {
		s.log.failed(unread.Err)
	} else if !isMissing(err) {
		return d, err
	}
	return nil, nil
}

// choose selects the deliveries that name means: those of the event with this id, of the only event with this prefix,
// or the only delivery with it.
func choose(found []*v1alpha1.PostbackDelivery, name string, of func(*v1alpha1.PostbackDelivery) bool) ([]*v1alpha1.PostbackDelivery, error) {
	exact := slices.DeleteFunc(slices.Clone(found), func(d *v1alpha1.PostbackDelivery) bool { return d.Spec.Event.ID != name })
	if len(exact) > 0 {
		found = exact
	}
	found = slices.DeleteFunc(slices.Clone(found), func(d *v1alpha1.PostbackDelivery) bool { return !of(d) })
	var ids []string
	for _, d := range found {
		if !slices.Contains(ids, d.Spec.Event.ID) {
			ids = append(ids, d.Spec.Event.ID)
		}
	}
	if len(ids) > 1 {
		slices.Sort(ids)
		return nil, fmt.Errorf("%q is the beginning of %s: name one of them: %s", name, plural(len(ids), "event"), strings.Join(shortened(ids), ", "))
	}
	slices.SortFunc(found, func(a, b *v1alpha1.PostbackDelivery) int {
		return strings.Compare(a.Spec.PostbackRef.Name, b.Spec.PostbackRef.Name)
	})
	return found, nil
}

// notFound returns an error that says why nothing was found, and since when deliveries are no longer kept.
func (s *scope) notFound(ctx context.Context, l *lookup, others []*v1alpha1.PostbackDelivery, name, postback string, now time.Time) error {
	about := fmt.Sprintf("there is no delivery and no event %q in namespace %s", name, s.namespace)
	if s.log != nil && s.log.unread != nil {
		return fmt.Errorf("event %q is unknown: no PostbackDelivery in namespace %s has it, and the delivery log, which may, could not be read: %s",
			name, s.namespace, explain(s.log.unread))
	}
	if postback != "" {
		about = fmt.Sprintf("postback %s has no delivery %q", postback, name)
		if len(others) > 0 {
			about += "; " + strings.Join(shortened(postbacksOf(others)), ", ") + " has one"
		}
	}
	about += "; \"kubectl postback events\" lists what is there"
	list := &v1alpha1.PostbackList{}
	if s.List(ctx, list, client.InNamespace(s.namespace)) != nil {
		return errors.New(about)
	}
	lines := []string{about}
	for i := range list.Items {
		p := &list.Items[i]
		if postback != "" && p.Name != postback {
			continue
		}
		if _, why := l.since(p, now); why != "" && len(lines) <= maxSuggested {
			lines = append(lines, why)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// since returns the time before which delivered events of a Postback are no longer kept, and the reason.
func (l *lookup) since(p *v1alpha1.Postback, now time.Time) (time.Time, string) {
	if l.kept == nil {
		return time.Time{}, ""
	}
	kept := l.kept[p.Name]
	if kept == nil {
		kept = &history.Kept{}
	}
	return kept.Since(p, now)
}

// missing names the Postbacks that select the event and have no delivery of it. Otherwise a user could take one
// Postback's delivery for another's.
func (s *scope) missing(ctx context.Context, l *lookup, now time.Time) []string {
	event := l.deliveries[0].Spec.Event
	list := &v1alpha1.PostbackList{}
	if l.kept == nil || l.deliveries[0].Spec.Test || s.List(ctx, list, client.InNamespace(s.namespace)) != nil {
		return nil
	}
	stored := l.deliveries[0].CreationTimestamp.Time
	var missing []string
	for i := range list.Items {
		p := &list.Items[i]
		has := slices.Contains(postbacksOf(l.deliveries), p.Name)
		if has || !route.Subscribed(p.Spec.Triggers, event.Type) || stored.Before(p.CreationTimestamp.Time) {
			continue
		}
		note := fmt.Sprintf("Postback %s takes %s, too, and has no delivery of this event.", p.Name, event.Type)
		if since, why := l.since(p, now); stored.Before(since) {
			note += " " + why
		}
		missing = append(missing, note)
	}
	return missing[:min(len(missing), maxSuggested)]
}

func postbacksOf(deliveries []*v1alpha1.PostbackDelivery) []string {
	names := make([]string, len(deliveries))
	for i, d := range deliveries {
		names[i] = d.Spec.PostbackRef.Name
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// shortened returns the first maxSuggested names, and an ellipsis for the others.
func shortened(names []string) []string {
	if len(names) <= maxSuggested {
		return names
	}
	return append(slices.Clone(names[:maxSuggested]), "…")
}
