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
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliverylog"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

const (
	// logPage is the number of deliveries of the log in one request.
	logPage = 500
	// maxLogPages bounds a search of the log for deliveries that the dispatcher cannot look up. Each page covers
	// 5,000 deliveries of the log at most.
	maxLogPages = 200
)

// isLogged reports whether a delivery is in the delivery log alone: it is no object of the API server.
func isLogged(d *v1alpha1.PostbackDelivery) bool { return d.UID == "" }

// logQuery returns a query for the log. ok is false if it selects nothing there, where all is delivered.
func (q query) logQuery() (l deliverylog.Query, ok bool) {
	return deliverylog.Query{Namespace: q.namespace, Postback: q.postback, Event: q.event, Since: q.since}, !q.failed && !q.undelivered
}

// logged passes the newest matches of a query in the delivery log to a function. It reports an error of the log, and
// the rest is shown nevertheless.
func (s *scope) logged(ctx context.Context, q query, f *found, take func(*v1alpha1.PostbackDelivery)) {
	l, ok := q.logQuery()
	if !ok {
		return
	}
	log := s.log.get(ctx, s)
	if log == nil {
		return
	}
	for pages, n := 0, 0; ; pages++ {
		l.Limit = logPage
		if q.limit > 0 {
			l.Limit = min(q.limit-n, logPage)
		}
		page, err := log.List(ctx, l)
		if err != nil {
			if ctx.Err() == nil {
				s.log.failed(err)
			}
			return
		}
		if f.logVersion == "" {
			f.logVersion = page.ResourceVersion
		}
		for i := range page.Items {
			take(&page.Items[i])
		}
		n += len(page.Items)
		switch l.Continue = page.Continue; {
		case l.Continue == "":
			return
		case q.limit > 0 && n >= q.limit:
			f.more = true
			return
		case pages == maxLogPages:
			say(s.log.ErrOut, "The delivery log was not searched to its end, which would take long: bound it with --since.")
			f.more = true
			return
		}
	}
}

// loggedNamed returns the delivery of a name from the delivery log, or nil.
func (s *scope) loggedNamed(ctx context.Context, name string) (*v1alpha1.PostbackDelivery, error) {
	log := s.log.get(ctx, s)
	if log == nil || strings.Contains(name, "/") {
		return nil, nil
	}
	d, err := log.Get(ctx, s.namespace, name)
	switch {
	case err == nil:
		return d, nil
	case !deliverylog.IsNotFound(err) && ctx.Err() == nil:
		s.log.failed(err)
	}
	return nil, ctx.Err()
}

// loggedLike returns the deliveries of an event from the delivery log. Without a delivery of that id, it returns those
// whose names or ids begin with it. Those that are known are left out.
func (s *scope) loggedLike(ctx context.Context, name string, known []*v1alpha1.PostbackDelivery) []*v1alpha1.PostbackDelivery {
	log := s.log.get(ctx, s)
	if log == nil {
		return nil
	}
	like := s.loggedPages(ctx, deliverylog.Query{Namespace: s.namespace, EventID: name})
	exact := slices.ContainsFunc(known, func(d *v1alpha1.PostbackDelivery) bool { return d.Spec.Event.ID == name })
	if len(like) == 0 && !exact && s.log.client != nil {
		like = s.loggedPages(ctx, deliverylog.Query{Namespace: s.namespace, Prefix: name, Limit: maxSuggested + 1})
	}
	return slices.DeleteFunc(like, func(d *v1alpha1.PostbackDelivery) bool {
		return slices.ContainsFunc(known, func(other *v1alpha1.PostbackDelivery) bool {
			return client.ObjectKeyFromObject(other) == client.ObjectKeyFromObject(d)
		})
	})
}

// maxLookups bounds how many Postbacks are looked up in the delivery log one by one.
const maxLookups = 40

// loggedActivities adds the newest successes of each Postback that the delivery log has. Beyond a number of quiet Postbacks,
// it knows no successes before those of its first page: then older attempts are forgotten, too.
func (s *scope) loggedActivities(ctx context.Context, postbacks []v1alpha1.Postback, activities map[client.ObjectKey]*activity) {
	since, seen := s.addLogged(ctx, deliverylog.Query{Namespace: s.namespace, Limit: logPage}, activities)
	for i, n := 0, 0; i < len(postbacks) && !since.IsZero(); i++ {
		key := client.ObjectKeyFromObject(&postbacks[i])
		switch {
		case !seen[key] && n < maxLookups:
			s.addLogged(ctx, deliverylog.Query{Namespace: key.Namespace, Postback: key.Name, Limit: waiting.MaxRecent}, activities)
			n++
		case activities[key] != nil:
			activities[key].recent.Since(since)
		}
	}
	if s.log.incomplete() == nil {
		return
	}
	for _, a := range activities {
		a.recent = nil
	}
}

// addLogged adds a page of the delivery log to activities. It returns the Postbacks that the page has, and since when it is
// complete: zero if nothing is missing.
func (s *scope) addLogged(ctx context.Context, q deliverylog.Query, activities map[client.ObjectKey]*activity) (since time.Time, seen map[client.ObjectKey]bool) {
	log := s.log.get(ctx, s)
	if log == nil {
		return time.Time{}, nil
	}
	page, err := log.List(ctx, q)
	if err != nil {
		s.log.failed(err)
		return time.Time{}, nil
	}
	if page.Continue != "" {
		since = s.log.clock.Now()
	}
	seen = map[client.ObjectKey]bool{}
	for i := range page.Items {
		d := &page.Items[i]
		key := client.ObjectKey{Namespace: d.Namespace, Name: d.Spec.PostbackRef.Name}
		if activities[key] == nil {
			activities[key] = &activity{}
		}
		activities[key].add(d)
		seen[key] = true
		if page.Continue != "" {
			since = d.CreationTimestamp.Time
		}
	}
	return since, seen
}

// loggedPages returns what a query finds, up to a little more than is named to people.
func (s *scope) loggedPages(ctx context.Context, q deliverylog.Query) (all []*v1alpha1.PostbackDelivery) {
	for range maxLogPages {
		page, err := s.log.client.List(ctx, q)
		if err != nil {
			if ctx.Err() == nil {
				s.log.failed(err)
			}
			return all
		}
		for i := range page.Items {
			all = append(all, &page.Items[i])
		}
		if q.Continue = page.Continue; q.Continue == "" || len(all) > maxSuggested {
			return all
		}
	}
	return all
}
