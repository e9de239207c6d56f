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

package dispatcher

import (
	"context"
	"slices"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// backlogEvery is the least time between two writes of the same status.backlog, backlogTick the time between two
	// passes.
	backlogEvery = 30 * time.Second
	backlogTick  = time.Second
	backlogRenew = 10 * backlogEvery
	// backlogWrites bounds the writes of one pass.
	backlogWrites = 20
	// backlogFieldOwner differs from the field owner of the health, because the two are applied separately.
	backlogFieldOwner = v1alpha1.DispatcherFieldOwner + "-backlog"
)

// backlogSource counts the deliveries that wait in a stream.
type backlogSource interface {
	Waiting() (counts map[types.UID]int64, polled bool)
	WaitingHead(ctx context.Context, r *route.Route) (jetstream.WaitingHead, error)
	// Share is the estimated part of the stream that a Postback's deliveries take.
	Share(r *route.Route) float64
	Crowding() jetstream.Crowding
}

// backlog writes status.backlog of Postbacks, on the elected replica. A newly elected replica writes it once for
// every Postback, because it cannot read the figures of its predecessor.
type backlog struct {
	client  client.Client
	source  backlogSource
	routes  *route.Index
	elected func() bool
	// gone reports whether an endpoint answered 410.
	gone  func(r *route.Route) bool
	clock clock.PassiveClock
	log   logr.Logger
	// events and warned serve warn. warned has the time of the last warning about a Postback.
	events events.EventRecorder
	warned map[types.UID]time.Time

	written map[types.UID]writtenBacklog
}

type writtenBacklog struct {
	deliveries int64
	at         time.Time
	// next is the written nextAttemptTime, or zero. reason is the reason why there is none.
	next   time.Time
	reason v1alpha1.BacklogReason
}

// run writes until ctx ends.
func (b *backlog) run(ctx context.Context) error { return every(ctx, backlogTick, b.pass) }

// pass writes the changed counts, at most backlogWrites of them.
func (b *backlog) pass(ctx context.Context) {
	counts, polled := b.source.Waiting()
	if !b.elected() || !polled {
		b.written = nil
		return
	}
	if b.written == nil {
		b.written = map[types.UID]writtenBacklog{}
	}
	b.warn(b.source.Crowding())
	due := b.due(b.routes.All(), counts)
	for _, r := range due[:min(len(due), backlogWrites)] {
		written, err := b.write(ctx, r, counts[r.UID])
		if err != nil {
			b.log.Info("Cannot write the backlog of a Postback yet", "postback", r.Key(), "reason", err.Error())
			continue
		}
		b.written[r.UID] = written
	}
	for uid := range b.written {
		if b.routes.Get(uid) == nil {
			delete(b.written, uid)
		}
	}
}

// due returns the routes whose status.backlog needs a write. Postbacks with a backlog come first.
func (b *backlog) due(routes []*route.Route, counts map[types.UID]int64) []*route.Route {
	due := slices.DeleteFunc(routes, func(r *route.Route) bool {
		before, known := b.written[r.UID]
		unchanged := before.deliveries == counts[r.UID] && (before.deliveries == 0 || b.holds(before, r))
		tooSoon := b.clock.Since(before.at) < backlogEvery && before.deliveries > 0
		return known && (unchanged || tooSoon)
	})
	slices.SortFunc(due, func(x, y *route.Route) int { return int(min(counts[y.UID], 1) - min(counts[x.UID], 1)) })
	return due
}

// holds reports whether the times and the reason of a written backlog still hold. An equal count does not mean equal
// times, so a write is renewed after backlogRenew.
func (b *backlog) holds(before writtenBacklog, r *route.Route) bool {
	now := b.clock.Now()
	passed := !before.next.IsZero() && before.next.After(before.at) && !before.next.After(now)
	return !passed && now.Sub(before.at) < backlogRenew && before.reason == unplanned(r.State, b.gone(r))
}

// unplanned returns the reason why no attempt of a backlog is planned, or "".
func unplanned(state v1alpha1.PostbackState, gone bool) v1alpha1.BacklogReason {
	switch {
	case state == v1alpha1.PostbackPaused:
		return v1alpha1.BacklogPaused
	case state == v1alpha1.PostbackDisabled:
		return v1alpha1.BacklogDisabled
	case gone:
		return v1alpha1.BacklogGone
	}
	return ""
}

// write applies status.backlog. If no delivery waits, that removes the field.
func (b *backlog) write(ctx context.Context, r *route.Route, deliveries int64) (writtenBacklog, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	written, status := writtenBacklog{deliveries: deliveries, at: b.clock.Now()}, map[string]any{}
	if deliveries > 0 {
		head, err := b.source.WaitingHead(ctx, r)
		if err != nil {
			return written, err
		}
		if written.reason = unplanned(r.State, b.gone(r)); written.reason == "" {
			written.next = head.Next
		}
		if !head.Oldest.IsZero() { // The backlog may be empty by now.
			status["backlog"] = written.fields(head.Oldest, b.source.Share(r))
		}
	}
	err := b.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Postback",
		"metadata": map[string]any{"namespace": r.Namespace, "name": r.Name, "uid": string(r.UID)},
		"status":   status,
	}}), client.FieldOwner(backlogFieldOwner), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return written, nil // The Postback is gone, or another Postback has its name.
	}
	return written, err
}

// fields returns status.backlog.
func (w *writtenBacklog) fields(oldest time.Time, share float64) map[string]any {
	fields := map[string]any{"deliveries": w.deliveries, "oldestTime": oldest.UTC().Format(time.RFC3339)}
	if !w.next.IsZero() {
		fields["nextAttemptTime"] = w.next.UTC().Format(time.RFC3339)
	}
	if w.reason != "" {
		fields["reason"] = string(w.reason)
	}
	if percent := min(jetstream.Percent(share), 100); percent > 0 {
		fields["sharePercent"] = int64(percent)
	}
	return fields
}
