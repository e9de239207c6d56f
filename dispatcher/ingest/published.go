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
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/dispatcher/event"
)

// Published is an event that did not come by HTTP. Whoever hands it in knows that its producer may send to the namespace.
type Published struct {
	Namespace string
	// Header is that of a request, as far as it says how to read the body: its type, or the attributes of a CloudEvent. Without
	// a type the body is JSON.
	Header http.Header
	Body   []byte
	// Key and At are the same each time the event is handed in. An event without an id gets one by Key, one without a time At.
	Key string
	At  time.Time
}

// Verdict says what has to become of a Published.
type Verdict string

// Verdicts.
const (
	// Taken: each Postback that takes the event has it.
	Taken Verdict = "Taken"
	// Invalid: it is no event, and never will be.
	Invalid Verdict = "Invalid"
	// Full: no Postback that takes it has room. It has to be handed in again.
	Full Verdict = "Full"
	// Again: not all could be stored. It has to be handed in again, and soon, for what is stored is known for a time.
	Again Verdict = "Again"
)

var errNotLoaded = errors.New("the Postbacks are not loaded yet")

// Take stores a Published as if it had been posted. The error says why it is not Taken.
func (s *Server) Take(ctx context.Context, p *Published) (Verdict, error) {
	if !s.options.Synced() {
		return Again, errNotLoaded
	}
	posted, err := s.readPublished(p)
	if err != nil {
		eventsTotal.WithLabelValues(string(resultInvalid)).Inc()
		return Invalid, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.requestTimeout)
	defer cancel()
	results := s.store(ctx, p.Namespace, posted)
	counts := tallyOf(results)
	switch {
	case counts[resultUnstored] > 0:
		_, err := unstored(results)
		return Again, err
	case counts[resultRefused] > 0 && counts[resultStored]+counts[resultDuplicate] == 0 && !refusedOnlyFor(reasonTooLarge, results):
		return Full, errors.New("no Postback that takes the event has room")
	}
	countEvents(results)
	s.reportPublished(p.Namespace, results)
	hold(ctx, results)
	return Taken, nil
}

// readPublished returns the events of a Published, or what is wrong with it.
func (s *Server) readPublished(p *Published) ([]event.Posted, error) {
	if len(validation.IsDNS1123Label(p.Namespace)) > 0 {
		return nil, fmt.Errorf("%q is not the name of a namespace", p.Namespace)
	}
	if int64(len(p.Body)) > s.options.MaxBodyBytes {
		return nil, fmt.Errorf("the body is larger than %d bytes", s.options.MaxBodyBytes)
	}
	header := p.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("Content-Type") == "" && !isBinaryMode(header) {
		header.Set("Content-Type", "application/json")
	}
	if header.Get(idempotencyKeyHeader) == "" {
		header.Set(idempotencyKeyHeader, p.Key)
	}
	d, a := newDecoder(header, p.Namespace)
	if a != nil {
		return nil, errors.New(a.problem.Detail)
	}
	posted, err := d.decode(p.Body, p.At)
	if invalid, ok := errors.AsType[*event.InvalidError](err); ok {
		// The place may name what is in the event's data, and this goes into a log.
		err = errors.New(invalid.Detail)
	}
	return posted, err
}

// reportPublished logs what a producer by HTTP would be told: for whom an event was refused.
func (s *Server) reportPublished(namespace string, events []eventResult) {
	for i := range events {
		for _, d := range events[i].Deliveries {
			if d.Result == resultRefused || d.Result == resultConflict {
				s.options.Log.Info("A published event is not stored for a Postback", "namespace", namespace, "eventID", events[i].ID,
					"postback", d.Postback, "reason", string(d.Result)+" "+string(d.Reason))
			}
		}
	}
}
