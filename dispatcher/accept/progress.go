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

package accept

import (
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// progressKept is how long the deliveries of a partly stored request are remembered after its last repeat.
	progressKept = 10 * time.Minute
	// maxProgress bounds the remembered deliveries: about 15 MB.
	maxProgress = 5 * maxDeliveries
)

// progress remembers the stored deliveries of partly stored requests. Producers repeat such requests. A repeat skips remembered
// deliveries and begins with the missing ones, so the repeats end. It is safe for concurrent use.
type progress struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	known map[types.NamespacedName]step
}

// step is a stored delivery: the fingerprint of its event, and when the memory of it expires.
type step struct {
	event [sha256.Size]byte
	until time.Time
}

// stored returns the name of the delivery of an event for a Postback if progress remembers it as stored.
func (p *progress) stored(namespace string, e *event.Posted, r *route.Route) (name string, known bool) {
	if p == nil {
		return "", false
	}
	p.mu.Lock()
	empty := len(p.known) == 0
	p.mu.Unlock()
	if empty {
		return "", false // Usually nothing is remembered: skip the digest.
	}
	name = delivery.Name(v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, e.ID)
	p.mu.Lock()
	have, known := p.known[types.NamespacedName{Namespace: namespace, Name: name}]
	p.mu.Unlock()
	if !known || !p.clock.Now().Before(have.until) {
		return "", false
	}
	of, err := fingerprint(e)
	return name, err == nil && have.event == of
}

// remember notes the stored deliveries of a request in which others are Unstored.
func (p *progress) remember(namespace string, events []event.Posted, results Results) {
	if p == nil || results.Tally()[intake.Unstored] == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	for key, have := range p.known {
		if !now.Before(have.until) {
			delete(p.known, key)
		}
	}
	for i := range results {
		of, err := fingerprint(&events[i])
		if err != nil {
			continue
		}
		for _, d := range results[i].Deliveries {
			key := types.NamespacedName{Namespace: namespace, Name: d.Delivery}
			_, known := p.known[key]
			if (d.Result == intake.Stored || d.Result == intake.Duplicate) && (known || len(p.known) < maxProgress) {
				p.known[key] = step{event: of, until: now.Add(progressKept)}
			}
		}
	}
}

// fingerprint returns a digest of all fields of an event that the producer set.
func fingerprint(e *event.Posted) ([sha256.Size]byte, error) {
	more, err := json.Marshal(e.CloudEvent)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	content := append(e.StoredAt(time.Time{}).Body(), more...)
	if e.CreatedAtGiven {
		content = append(content, '+')
	}
	return sha256.Sum256(content), nil
}
