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

// Package deliverylog reads the delivery log: the stream into which the JetStream intake writes each delivery that
// succeeds in its first attempt. It returns PostbackDeliveries in the form of the API server.
//
// A log may hold many millions of entries. List therefore searches backwards from the newest, in windows that grow while they
// hold too little. The server selects Postback and namespace by subject. The package filters other fields, such as the type of
// an event, within bounds. A page may then be short, and names the continuation.
package deliverylog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Bounds of one page.
const (
	// MaxLimit is how many deliveries a page holds at most.
	MaxLimit = 500
	// maxScanned bounds the messages that are scanned for a page, maxScannedBytes their bytes, and maxScanTime the time.
	maxScanned      = 5000
	maxScannedBytes = 16 << 20
	maxScanTime     = 3 * time.Second
	// maxSubjects is how many subjects the server looks up at once.
	maxSubjects = 500
)

// ErrUnavailable means that the log could not be read, so its content is unknown.
var ErrUnavailable = errors.New("the delivery log cannot be read")

// Routes are the Postbacks that exist.
type Routes interface {
	// Get returns the route of a Postback, or nil.
	Get(postback types.UID) *route.Route
	// Of returns the route of a Postback of a namespace, or nil.
	Of(namespace string, postback v1alpha1.PostbackReference) *route.Route
	// In returns those of a namespace, in no order.
	In(namespace string) []*route.Route
}

// Reader reads the log. It is safe for concurrent use.
type Reader struct {
	JetStream jetstream.JetStream
	Names     message.Names
	// Routes bound what is shown to the Postbacks that exist: one that was deleted takes its log with it, so that nobody
	// who makes a namespace or a Postback of the same name reads what was somebody else's.
	Routes Routes
}

// Query selects deliveries. The zero value selects all.
type Query struct {
	// Namespace is theirs; "" means all.
	Namespace string
	// Postback is the name of the one that they are for; "" means any. It needs a namespace.
	Postback string
	// EventType and EventID are those of their event; "" means any.
	EventType, EventID string
	// Prefix is how the event's id or the delivery's name begins.
	Prefix string
	// Since is the time from which on they were stored.
	Since time.Time
}

// Page is a part of the log, the newest first.
type Page struct {
	Deliveries []*v1alpha1.PostbackDelivery
	// Before is the number from which the next page continues, or 0 if there is no next page.
	Before uint64
	// Newest is the number of the log's newest message: Follow continues from it.
	Newest uint64
}

// List returns the newest deliveries that a query selects before a sequence, or the newest of all if that is 0. There may be
// fewer than the limit although the page says that there are more.
func (r *Reader) List(ctx context.Context, q Query, before uint64, limit int) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, maxScanTime+time.Second)
	defer cancel()
	state, err := r.state(ctx)
	if err != nil {
		return Page{}, err
	}
	p := Page{Newest: state.LastSeq}
	if q.EventID != "" {
		// The names of its deliveries follow from its id.
		p.Deliveries, err = r.event(ctx, q)
		return p, err
	}
	filter, some := r.filter(q)
	if !some || state.Msgs == 0 {
		return p, nil
	}
	if before == 0 || before > state.LastSeq {
		before = state.LastSeq + 1
	}
	limit = min(max(limit, 1), MaxLimit)
	pass := &scan{reader: r, filter: filter, first: state.FirstSeq, until: time.Now().Add(maxScanTime)}
	p.Before, err = pass.backwards(ctx, before, func(m *jetstream.RawStreamMsg) (more bool) {
		d := r.decode(m)
		if d == nil {
			return true
		}
		if !q.Since.IsZero() && m.Time.Before(q.Since) {
			// It is logged after it was stored, so no earlier one was stored since.
			pass.ended = true
			return false
		}
		if q.selects(d) {
			p.Deliveries = append(p.Deliveries, d)
		}
		return len(p.Deliveries) < limit
	})
	if pass.ended {
		p.Before = 0
	}
	return p, err
}

// Get returns a delivery by its name, or nil if there is none.
func (r *Reader) Get(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error) {
	postback, _, ok := cutLast(name, "-")
	if !ok || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return nil, nil // A wildcard of subjects is no name.
	}
	for _, known := range r.Routes.In(namespace) {
		if known.Name != postback {
			continue
		}
		found, err := r.last(ctx, []string{r.Names.LogSubject(namespace, known.UID, name)})
		if err != nil || len(found) == 0 || found[0].Name != name {
			return nil, err
		}
		return found[0], nil
	}
	return nil, nil
}

// cutLast cuts a text at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// event returns the deliveries of an event that a query selects.
func (r *Reader) event(ctx context.Context, q Query) ([]*v1alpha1.PostbackDelivery, error) {
	var subjects []string
	for _, known := range r.Routes.In(q.Namespace) {
		if q.Postback == "" || q.Postback == known.Name {
			name := delivery.Name(v1alpha1.PostbackReference{Name: known.Name, UID: known.UID}, q.EventID)
			subjects = append(subjects, r.Names.LogSubject(q.Namespace, known.UID, name))
		}
	}
	found, err := r.last(ctx, subjects)
	var taken []*v1alpha1.PostbackDelivery
	for _, d := range found {
		if q.selects(d) {
			taken = append(taken, d)
		}
	}
	return taken, err
}

// last returns the newest delivery of each subject that has one.
func (r *Reader) last(ctx context.Context, subjects []string) ([]*v1alpha1.PostbackDelivery, error) {
	var found []*v1alpha1.PostbackDelivery
	for len(subjects) > 0 {
		n := min(len(subjects), maxSubjects)
		batch, err := jetstreamext.GetLastMsgsFor(ctx, r.JetStream, r.Names.LogStream(), subjects[:n])
		if err != nil {
			return nil, unavailable(err)
		}
		for m, err := range batch {
			switch {
			case errors.Is(err, jetstreamext.ErrNoMessages):
			case err != nil:
				return nil, unavailable(err)
			default:
				if d := r.decode(m); d != nil {
					found = append(found, d)
				}
			}
		}
		subjects = subjects[n:]
	}
	return found, nil
}

// Newest returns the sequence of the log's newest message.
func (r *Reader) Newest(ctx context.Context) (uint64, error) {
	state, err := r.state(ctx)
	if err != nil {
		return 0, err
	}
	return state.LastSeq, nil
}

func (r *Reader) state(ctx context.Context) (*jetstream.StreamState, error) {
	stream, err := r.JetStream.Stream(ctx, r.Names.LogStream())
	if err != nil {
		return nil, unavailable(err)
	}
	return &stream.CachedInfo().State, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// filter returns the subject of the messages that a query may select. some is false if no message can match.
func (r *Reader) filter(q Query) (subject string, some bool) {
	if q.Namespace == "" {
		return r.Names.AllLog(), true
	}
	if q.Postback == "" {
		return r.Names.LogSubjects(q.Namespace, ""), true
	}
	for _, known := range r.Routes.In(q.Namespace) {
		if known.Name == q.Postback {
			return r.Names.LogSubjects(q.Namespace, known.UID), true
		}
	}
	return "", false
}

// decode returns the delivery of a message, or nil if it is of a Postback that is there no more, or of another form.
func (r *Reader) decode(m *jetstream.RawStreamMsg) *v1alpha1.PostbackDelivery {
	d, err := r.Names.ParseLog(m.Subject, m.Header, m.Data)
	if err != nil || r.Routes.Of(d.Namespace, d.Spec.PostbackRef) == nil {
		return nil
	}
	d.ResourceVersion = strconv.FormatUint(m.Sequence, 10)
	return d
}

// selects reports whether a query selects a delivery, as far as its subject does not say.
func (q Query) selects(d *v1alpha1.PostbackDelivery) bool {
	return (q.EventType == "" || q.EventType == d.Spec.Event.Type) &&
		(q.EventID == "" || q.EventID == d.Spec.Event.ID) &&
		(q.Prefix == "" || strings.HasPrefix(d.Spec.Event.ID, q.Prefix) || strings.HasPrefix(d.Name, q.Prefix)) &&
		(q.Since.IsZero() || !d.CreationTimestamp.Time.Before(q.Since))
}
