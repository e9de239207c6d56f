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

package deliverylog

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

const (
	// maxSearched and maxSearchedBytes bound the messages scanned for a page of a few deliveries, such as those of
	// one event. The waiting stream has no subject per delivery. maxScannedBytes bounds the bytes of such a page.
	maxSearched      = 50_000
	maxSearchedBytes = 256 << 20
)

// Waiting reads the waiting stream. It is safe for concurrent use.
type Waiting struct {
	JetStream jetstream.JetStream
	Names     message.Names
	// Routes restrict the result to existing Postbacks, as in Reader.
	Routes Routes
}

// List returns the newest selected deliveries before a sequence; 0 means the end of the waiting stream. The page may
// be shorter than limit although Before says that more follow. The resourceVersion of a delivery is its sequence.
func (w *Waiting) List(ctx context.Context, q Query, before uint64, limit int) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, maxScanTime+time.Second)
	defer cancel()
	state, err := stateOf(ctx, w.JetStream, w.Names.WaitingStream())
	if err != nil {
		return Page{}, err
	}
	p := Page{Newest: state.LastSeq}
	subjects := w.subjects(q)
	if len(subjects) == 0 || state.Msgs == 0 {
		return p, nil
	}
	if before == 0 || before > state.LastSeq {
		before = state.LastSeq + 1
	}
	limit = min(max(limit, 1), MaxLimit)
	until := time.Now().Add(maxScanTime)
	pages := make([]Page, len(subjects))
	for i, subject := range subjects {
		most, mostBytes := maxScanned, maxScannedBytes
		if q.EventID != "" || q.Name != "" || q.Prefix != "" {
			most, mostBytes = maxSearched, maxSearchedBytes
		}
		pass := &scan{
			js: w.JetStream, stream: w.Names.WaitingStream(), filter: subject, most: most, mostBytes: mostBytes,
			first: state.FirstSeq, until: until,
		}
		if pages[i], err = w.page(ctx, pass, q, before, limit); err != nil {
			return p, err
		}
	}
	p.Deliveries, p.Before = merge(pages, limit)
	return p, nil
}

// subjects returns the narrowest subjects that cover a query.
func (w *Waiting) subjects(q Query) []string {
	if q.Postback == "" {
		return w.Names.WaitingSubjects(q.Namespace, "")
	}
	for _, known := range w.Routes.In(q.Namespace) {
		if known.Name == q.Postback {
			return w.Names.WaitingSubjects(q.Namespace, known.UID)
		}
	}
	return nil
}

// page returns the selected deliveries of one subject.
func (w *Waiting) page(ctx context.Context, pass *scan, q Query, before uint64, limit int) (p Page, err error) {
	size := 0
	p.Before, err = pass.backwards(ctx, before, func(m *jetstream.RawStreamMsg) (more bool) {
		if !q.Since.IsZero() && m.Time.Before(q.Since) {
			// A delivery was accepted before it came into this stream, so all earlier messages were accepted before
			// Since, too.
			pass.ended = true
			return false
		}
		if d := w.decode(m); d != nil && q.selects(d) {
			p.Deliveries = append(p.Deliveries, d)
			size += len(d.Spec.Body)
		}
		return len(p.Deliveries) < limit && size < maxScannedBytes
	})
	if pass.ended {
		p.Before = 0
	}
	return p, err
}

// decode returns the delivery of a message, or nil if its Postback is gone or the message has another form.
func (w *Waiting) decode(m *jetstream.RawStreamMsg) *v1alpha1.PostbackDelivery {
	d, stored, err := w.Names.ParseWaiting(m.Subject, m.Header, m.Data)
	if err != nil || w.Routes.Of(d.Namespace, d.Spec.PostbackRef) == nil {
		return nil
	}
	d.CreationTimestamp, d.Generation = message.Created(stored), 1
	d.ResourceVersion = strconv.FormatUint(m.Sequence, 10)
	d.Status.Phase = cmp.Or(d.Status.Phase, v1alpha1.DeliveryPending)
	return d
}

// merge returns the newest deliveries of the pages of several subjects, and the sequence before which to continue,
// or 0. A page lacks the deliveries before its continuation, so merge leaves out older ones of the other pages.
func merge(pages []Page, limit int) (newest []*v1alpha1.PostbackDelivery, before uint64) {
	for _, p := range pages {
		newest, before = append(newest, p.Deliveries...), max(before, p.Before)
	}
	newest = slices.DeleteFunc(newest, func(d *v1alpha1.PostbackDelivery) bool { return sequenceOf(d) < before })
	slices.SortFunc(newest, func(a, b *v1alpha1.PostbackDelivery) int { return cmp.Compare(sequenceOf(b), sequenceOf(a)) })
	if len(newest) > limit {
		newest = newest[:limit]
		before = sequenceOf(newest[limit-1])
	}
	return newest, before
}

// sequenceOf returns the sequence of a delivery in its stream.
func sequenceOf(d *v1alpha1.PostbackDelivery) uint64 {
	sequence, err := strconv.ParseUint(d.ResourceVersion, 10, 64)
	if err != nil {
		return math.MaxUint64 // Every delivery here has a sequence.
	}
	return sequence
}
