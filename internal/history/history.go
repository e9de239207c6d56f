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

// Package history derives, from the deliveries of a Postback, since when all its finished deliveries are kept.
package history

import (
	"fmt"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Grace is the minimum time for which every finished delivery is kept, regardless of spec.history.
const Grace = 5 * time.Minute

// Kept counts the delivered PostbackDeliveries of one Postback. The zero value has counted none.
type Kept struct {
	delivered int
	oldest    time.Time
}

// Add counts d if it is Delivered.
func (k *Kept) Add(d *v1alpha1.PostbackDelivery) {
	finished := d.CreationTimestamp.Time
	if at := d.Status.CompletionTime; at != nil {
		finished = at.Time
	}
	k.AddFinished(d.Status.Phase, finished)
}

// AddFinished works like Add, for a delivery with a known phase and completion time.
func (k *Kept) AddFinished(phase v1alpha1.DeliveryPhase, finished time.Time) {
	if phase != v1alpha1.DeliveryDelivered {
		return
	}
	k.delivered++
	if k.oldest.IsZero() || finished.Before(k.oldest) {
		k.oldest = finished
	}
}

// Since returns the time before which delivered events are no longer kept, and a sentence with the reason. The zero
// time means that none has been pruned. A nil Kept considers only the age; any other must have counted all deliveries
// of the Postback.
func (k *Kept) Since(p *v1alpha1.Postback, now time.Time) (since time.Time, reason string) {
	delivered, _, ttl := p.Spec.GetHistory()
	if aged := now.Add(-ttl); ttl > 0 {
		since, reason = aged, fmt.Sprintf("Postback %s keeps finished deliveries for %s (spec.history.ttl)", p.Name, hours(ttl))
	}
	switch {
	case k == nil:
	case delivered == 0:
		since, reason = now.Add(-Grace), fmt.Sprintf("Postback %s keeps delivered events for 5 minutes only (spec.history.delivered: 0)", p.Name)
	case k.delivered >= int(delivered) && k.completeSince(now).After(since):
		since, reason = k.completeSince(now), fmt.Sprintf("Postback %s keeps the newest %d delivered events (spec.history.delivered)", p.Name, delivered)
	}
	if !since.After(p.CreationTimestamp.Time) {
		return time.Time{}, ""
	}
	return since, fmt.Sprintf("%s: what was delivered before %s is no longer kept.", reason, since.UTC().Format(time.RFC3339))
}

// completeSince returns the time since which all delivered events are kept, once the number of spec.history.delivered is reached. Pruning
// spares deliveries younger than Grace, although they count.
func (k *Kept) completeSince(now time.Time) time.Time {
	if spared := now.Add(-Grace); k.oldest.After(spared) {
		return spared
	}
	return k.oldest
}

// hours formats a duration without the parts that are 0s or 0m.
func hours(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if rest := strings.TrimSuffix(text, zero); rest != text && strings.ContainsAny(rest[len(rest)-1:], "hm") {
			text = rest
		}
	}
	return text
}
