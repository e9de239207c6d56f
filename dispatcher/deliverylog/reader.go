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

// Package deliverylog reads two streams of the JetStream intake: the delivery log, with each delivery that succeeded
// and was no PostbackDelivery, and the waiting stream. It returns PostbackDeliveries in the form of the API server.
// It also declares the acts on waiting deliveries: logapi requests them, and jetstream carries them out.
//
// A delivery log may hold many millions of entries. List therefore searches backwards from the newest entry, in windows that
// grow while they hold few entries. The server selects Postback and namespace by subject. The package filters other
// fields, such as the type of an event, within bounds. A page may then be short, and says where the next one begins.
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

// These constants bound one page.
const (
	// MaxLimit is the largest number of deliveries on a page.
	MaxLimit = 500
	// maxScanned, maxScannedBytes and maxScanTime bound the messages scanned for a page, their bytes and the time.
	maxScanned      = 5000
	maxScannedBytes = 16 << 20
	maxScanTime     = 3 * time.Second
	// maxSubjects is the number of subjects in one lookup.
	maxSubjects = 500
)

// ErrUnavailable means that the delivery log could not be read, so its content is unknown.
var ErrUnavailable = errors.New("the delivery log cannot be read")

// Routes finds the routes of existing Postbacks.
type Routes interface {
	// Get returns the route of a Postback, or nil.
	Get(postback types.UID) *route.Route
	// Of returns the route of a Postback of a namespace, or nil.
	Of(namespace string, postback v1alpha1.PostbackReference) *route.Route
	// In returns the routes of a namespace, unsorted.
	In(namespace string) []*route.Route
}

// Reader reads the delivery log. It is safe for concurrent use.
type Reader struct {
	JetStream jetstream.JetStream
	Names     message.Names
	// Routes restrict the delivery log to existing Postbacks. A later namespace or Postback of the same name therefore does
	// not expose the delivery log of its predecessor.
	Routes Routes
}

// Query selects deliveries. The zero value selects all.
type Query struct {
	// Namespace of the deliveries; "" means all.
	Namespace string
	// Postback is the name of their Postback; "" means any. It requires Namespace.
	Postback string
	// EventType and EventID of their event; "" means any.
	EventType, EventID string
	// Name of the delivery; "" means any.
	Name string
	// Prefix of the event's id or of the delivery's name.
	Prefix string
	// Since excludes deliveries that were stored earlier.
	Since time.Time
}

// Page is a part of the delivery log, newest first.
type Page struct {
	Deliveries []*v1alpha1.PostbackDelivery
	// Before is the sequence at which the next page ends, exclusively, or 0 if there is no next page.
	Before uint64
	// Newest is the newest sequence of the delivery log: Follow continues from it.
	Newest uint64
}

// List returns the newest selected deliveries before a sequence; 0 means the end of the delivery log. The page may be shorter
// than limit although Before says that more follow.
func (r *Reader) List(ctx context.Context, q Query, before uint64, limit int) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, maxScanTime+time.Second)
	defer cancel()
	state, err := r.state(ctx)
	if err != nil {
		return Page{}, err
	}
	p := Page{Newest: state.LastSeq}
	if q.EventID != "" {
		// The delivery names follow from the event's id.
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
	pass := &scan{
		js: r.JetStream, stream: r.Names.LogStream(), filter: filter, most: maxScanned, mostBytes: maxScannedBytes,
		first: state.FirstSeq, until: time.Now().Add(maxScanTime),
	}
	p.Before, err = pass.backwards(ctx, before, func(m *jetstream.RawStreamMsg) (more bool) {
		d := r.decode(m)
		if d == nil {
			return true
		}
		if !q.Since.IsZero() && m.Time.Before(q.Since) {
			// An entry is logged after its delivery was stored, so all earlier entries were stored before Since, too.
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

// Get returns the delivery of a name, or nil if the delivery log has none.
func (r *Reader) Get(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error) {
	postback, _, ok := cutLast(name, "-")
	if !ok || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return nil, nil // A wildcard of NATS subjects is not a name.
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

// cutLast splits a text at its last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// event returns the selected deliveries of the event q.EventID.
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

// last returns the newest delivery of each subject, without the subjects that have none.
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

// Newest returns the newest sequence of the delivery log.
func (r *Reader) Newest(ctx context.Context) (uint64, error) {
	state, err := r.state(ctx)
	if err != nil {
		return 0, err
	}
	return state.LastSeq, nil
}

func (r *Reader) state(ctx context.Context) (*jetstream.StreamState, error) {
	return stateOf(ctx, r.JetStream, r.Names.LogStream())
}

func stateOf(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamState, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, unavailable(err)
	}
	return &stream.CachedInfo().State, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// filter returns the narrowest subject that covers a query. some is false if no message can match.
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

// decode returns the delivery of a message, or nil if its Postback is gone or the message has another form.
func (r *Reader) decode(m *jetstream.RawStreamMsg) *v1alpha1.PostbackDelivery {
	d, err := r.Names.ParseLog(m.Subject, m.Header, m.Data)
	if err != nil || r.Routes.Of(d.Namespace, d.Spec.PostbackRef) == nil {
		return nil
	}
	d.ResourceVersion = strconv.FormatUint(m.Sequence, 10)
	return d
}

// selects checks the fields of a query that the subject does not cover.
func (q Query) selects(d *v1alpha1.PostbackDelivery) bool {
	return (q.EventType == "" || q.EventType == d.Spec.Event.Type) &&
		(q.EventID == "" || q.EventID == d.Spec.Event.ID) &&
		(q.Name == "" || q.Name == d.Name) &&
		(q.Prefix == "" || strings.HasPrefix(d.Spec.Event.ID, q.Prefix) || strings.HasPrefix(d.Name, q.Prefix)) &&
		(q.Since.IsZero() || !d.CreationTimestamp.Time.Before(q.Since))
}
