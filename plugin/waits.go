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
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// waitsFresh is how long waits uses Postbacks before it reads them again.
const waitsFresh = 5 * time.Second

// waits finds the reasons why deliveries wait. It reads their Postbacks, and keeps them for waitsFresh.
type waits struct {
	ctx       context.Context //nolint:containedctx // The context of the calling verb.
	scope     *scope
	namespace string
	now       func() time.Time

	readAt    time.Time
	postbacks map[client.ObjectKey]*v1alpha1.Postback
}

// waits returns the waits for a namespace, or for all if it is "".
func (e *env) waits(ctx context.Context, s *scope, namespace string) *waits {
	return &waits{ctx: ctx, scope: s, namespace: namespace, now: e.clock.Now}
}

// of returns the reason why a delivery waits. If Postbacks cannot be read, it knows only the delivery's schedule.
func (w *waits) of(d *v1alpha1.PostbackDelivery) waiting.Why {
	now := w.now()
	of := waiting.Of(d)
	if of.Done() {
		return waiting.Why{}
	}
	if w.readAt.IsZero() || now.Sub(w.readAt) > waitsFresh {
		w.read(now)
	}
	if w.postbacks == nil {
		unread := &v1alpha1.Postback{}
		unread.Name = d.Spec.PostbackRef.Name
		return waiting.For(of, unread, now)
	}
	p := w.postbacks[client.ObjectKey{Namespace: d.Namespace, Name: d.Spec.PostbackRef.Name}]
	if p != nil && p.UID != d.Spec.PostbackRef.UID {
		p = nil
	}
	return waiting.For(of, p, now)
}

func (w *waits) read(now time.Time) {
	w.readAt = now
	list := &v1alpha1.PostbackList{}
	if w.scope.List(w.ctx, list, client.InNamespace(w.namespace)) != nil {
		return
	}
	w.postbacks = map[client.ObjectKey]*v1alpha1.Postback{}
	for i := range list.Items {
		w.postbacks[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
}

// nextText returns the time until the next attempt, or the reason why none is planned.
func nextText(why waiting.Why, now time.Time) string {
	switch {
	case why.Reason == "":
		return ""
	case why.Next.IsZero():
		return strings.ToLower(spaced(string(why.Reason)))
	}
	return until(why.Next, now)
}

// spaced splits a reason into words: "NoRoute" is "No Route".
func spaced(reason string) string {
	var b strings.Builder
	for i, r := range reason {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// waitCounts counts deliveries by the reason why they wait.
type waitCounts struct {
	byReason map[waiting.Reason]int
	// oldestDue is the due time of the oldest delivery that waits only for a slot, or zero.
	oldestDue time.Time
}

func (c *waitCounts) add(d *v1alpha1.PostbackDelivery, why waiting.Why) {
	switch why.Reason {
	case "", waiting.Scheduled:
		return
	case waiting.InTurn:
		if due := delivery.DueTime(d); c.oldestDue.IsZero() || due.Before(c.oldestDue) {
			c.oldestDue = due
		}
		return
	default:
	}
	if c.byReason == nil {
		c.byReason = map[waiting.Reason]int{}
	}
	c.byReason[why.Reason]++
}

// text returns the counts as part of a sentence, such as "; 3 wait: 2 CircuitOpen, 1 Paused", or "".
func (c *waitCounts) text() string {
	total := 0
	var parts []string
	for reason, n := range c.byReason {
		total += n
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	if total == 0 {
		return ""
	}
	slices.Sort(parts)
	return fmt.Sprintf("; %d wait: %s", total, strings.Join(parts, ", "))
}

// ahead counts the due deliveries of the same Postback that became due earlier.
func (s *scope) ahead(ctx context.Context, d *v1alpha1.PostbackDelivery, now time.Time) int {
	n := 0
	q := deliveries.Query{Namespace: d.Namespace, Postback: d.Spec.PostbackRef.Name}
	err := deliveries.EachObject(ctx, s, q, func(other *v1alpha1.PostbackDelivery) {
		if !other.Status.Phase.Finished() && other.UID != d.UID && delivery.DueTime(other).Before(delivery.DueTime(d)) && !delivery.DueTime(other).After(now) {
			n++
		}
	})
	if err != nil {
		return 0
	}
	return n
}
