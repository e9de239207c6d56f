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

package feed

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// Row is a delivery in the log. It has no body, so that ten thousand rows fit into a few megabytes. A Row never
// changes: a new state of the delivery is a new Row.
type Row struct {
	deliveries.Place

	// Postback is the name of the delivery's Postback.
	Postback string
	Event    string
	EventID  string
	Test     bool
	Phase    v1alpha1.DeliveryPhase
	Attempts int32
	// Recent are the recorded attempts, oldest first.
	Recent []Sample
	// Next is the scheduled time of the next attempt, or zero if there is none.
	Next time.Time
	// Asked and InBulk are as in waiting.Delivery.
	Asked, InBulk bool
	// Logged says that the row is an entry of the delivery log, not a PostbackDelivery.
	Logged bool
	// Waiting says that the delivery is in the waiting stream, and no PostbackDelivery.
	Waiting bool

	version  string
	revision uint64
}

// Sample is the part of an attempt that the charts need.
type Sample struct {
	waiting.Attempt

	Duration time.Duration
}

// Last returns the newest attempt, or the zero value if there is none.
func (r *Row) Last() Sample {
	if len(r.Recent) == 0 {
		return Sample{}
	}
	return r.Recent[len(r.Recent)-1]
}

// Newest returns the newest attempts of all rows.
func Newest(rows []*Row) (newest waiting.Recent) {
	for _, r := range rows {
		for _, s := range r.Recent {
			newest.Add(s.Attempt)
		}
	}
	return newest
}

// PostbackKey returns the namespace and name of the Postback.
func (r *Row) PostbackKey() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Postback}
}

// NewRow returns the row of a delivery.
func NewRow(d *v1alpha1.PostbackDelivery) *Row {
	r := &Row{
		Place:    deliveries.PlaceOf(d),
		Postback: d.Spec.PostbackRef.Name, Event: d.Spec.Event.Type, EventID: d.Spec.Event.ID, Test: d.Spec.Test,
		Phase: cmp.Or(d.Status.Phase, v1alpha1.DeliveryPending), Attempts: d.Status.AttemptCount,
		version: d.ResourceVersion,
	}
	r.Asked, r.InBulk = waiting.Requested(d)
	if next := d.Status.NextAttemptTime; next != nil {
		r.Next = next.Time
	}
	for i := range d.Status.Attempts {
		a := &d.Status.Attempts[i]
		r.Recent = append(r.Recent, Sample{waiting.AttemptOf(a), a.Duration.Duration})
	}
	return r
}

// strip removes the fields that only the sheet shows. The sheet reads the delivery again.
func strip(d *v1alpha1.PostbackDelivery) {
	d.ManagedFields = nil
	d.Spec.Body = ""
	for i := range d.Status.Attempts {
		d.Status.Attempts[i].ResponseBody, d.Status.Attempts[i].Message = "", ""
	}
}

// newestFirst compares rows in the order of the log.
func newestFirst(a, b *Row) int { return a.Compare(b.Place) }

// Cursor returns the row's position in the log. It stays valid when rows are added or removed.
func (r *Row) Cursor() string {
	return fmt.Sprintf("%d_%d_%s", r.Created.Unix(), r.EventTime.UnixMicro(), r.Name)
}

// parseCursor returns a row with the position of a cursor, or nil if the cursor is invalid.
func parseCursor(namespace, cursor string) *Row {
	parts := strings.SplitN(cursor, "_", 3)
	if len(parts) != 3 {
		return nil
	}
	created, err := strconv.ParseInt(parts[0], 10, 64)
	event, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || err2 != nil {
		return nil
	}
	return &Row{Place: deliveries.Place{
		NamespacedName: types.NamespacedName{Namespace: namespace, Name: parts[2]},
		Created:        metav1.Unix(created, 0).Time, EventTime: time.UnixMicro(event),
	}}
}

// Filter selects rows. The zero value selects all.
type Filter struct {
	Phase v1alpha1.DeliveryPhase
	// Unfinished selects rows that wait for an attempt.
	Unfinished bool
	Event      string
	// Since selects rows that were stored at this time or later.
	Since time.Time
	// Text is a part of the event's id or type, or of the delivery's name, in any case.
	Text string
}

// Match reports whether the filter selects a row.
func (f Filter) Match(r *Row) bool {
	return (f.Phase == "" || f.Phase == r.Phase) && (!f.Unfinished || !r.Phase.Finished()) && (f.Event == "" || f.Event == r.Event) &&
		(f.Since.IsZero() || !r.Created.Before(f.Since)) &&
		(f.Text == "" || contains(r.EventID, f.Text) || contains(r.Event, f.Text) || contains(r.Name, f.Text))
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// Page is a part of a log.
type Page struct {
	Rows []*Row
	// First is the index of the first row among the selected ones, from 0. Total is the number of selected rows.
	First, Total int
	// Revision is the revision of the feed that the page shows.
	Revision uint64
}

// Newer reports whether there are newer rows.
func (p Page) Newer() bool { return p.First > 0 }

// Older reports whether there are older rows.
func (p Page) Older() bool { return p.First+len(p.Rows) < p.Total }

// page returns a page of the selected rows: those after one row, those before another, or the first.
func page(rows []*Row, after, before *Row, size int) Page {
	start := 0
	if after != nil {
		i, found := slices.BinarySearchFunc(rows, after, newestFirst)
		if found {
			i++
		}
		start = i
	} else if before != nil {
		i, _ := slices.BinarySearchFunc(rows, before, newestFirst)
		start = max(0, i-size)
	}
	start = min(start, len(rows))
	return Page{Rows: rows[start:min(start+size, len(rows))], First: start, Total: len(rows)}
}
