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
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var (
	start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	crm   = types.NamespacedName{Namespace: "acme", Name: "crm"}
)

// stored returns a delivery that was stored some seconds after start.
func stored(name string, seconds int, version string) *v1alpha1.PostbackDelivery {
	d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{
		Namespace: crm.Namespace, Name: name, ResourceVersion: version,
		CreationTimestamp: metav1.NewTime(start.Add(time.Duration(seconds) * time.Second)),
	}}
	d.Spec.PostbackRef.Name = crm.Name
	d.Spec.Event = v1alpha1.EventReference{ID: "evt_" + name, Type: "lead.created", CreatedAt: metav1.NewMicroTime(start)}
	return d
}

// filled returns a feed with n deliveries, of which d00 is the oldest.
func filled(t *testing.T, n int) *Feed {
	t.Helper()
	f := New(nil, "", nil)
	var all []any
	for i := range n {
		all = append(all, stored(fmt.Sprintf("d%02d", i), i, "1"))
	}
	if err := f.sources[2].Replace(all, ""); err != nil {
		t.Fatal(err)
	}
	return f
}

func names(rows []*Row) []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.Name)
	}
	return all
}

func check(t *testing.T, what string, got []*Row, want ...string) {
	t.Helper()
	if !slices.Equal(names(got), want) {
		t.Errorf("%s: %v, want %v", what, names(got), want)
	}
}

func TestPagesHoldWhileEventsArrive(t *testing.T) {
	f := filled(t, 7)
	first := f.Page(crm, Filter{}, "", "", 3)
	check(t, "the first page", first.Rows, "d06", "d05", "d04")
	if first.Newer() || !first.Older() || first.Total != 7 {
		t.Errorf("the first page is %+v", first)
	}
	// A row is added, and the last row of the page is removed.
	if err := f.sources[2].Add(stored("d07", 7, "1")); err != nil {
		t.Fatal(err)
	}
	if err := f.sources[2].Delete(stored("d04", 4, "1")); err != nil {
		t.Fatal(err)
	}
	second := f.Page(crm, Filter{}, first.Rows[2].Cursor(), "", 3)
	check(t, "the second page", second.Rows, "d03", "d02", "d01")
	last := f.Page(crm, Filter{}, second.Rows[2].Cursor(), "", 3)
	check(t, "the last page", last.Rows, "d00")
	if last.Older() || !last.Newer() || last.First != 6 {
		t.Errorf("the last page is %+v", last)
	}
	check(t, "back", f.Page(crm, Filter{}, "", last.Rows[0].Cursor(), 3).Rows, "d03", "d02", "d01")
	check(t, "a cursor that is none", f.Page(crm, Filter{}, "x_y", "", 1).Rows, "d07")
}

func TestFilter(t *testing.T) {
	f := filled(t, 4)
	failed := stored("d02", 2, "2")
	failed.Status.Phase = v1alpha1.DeliveryFailed
	sale := stored("d03", 3, "2")
	sale.Spec.Event.Type = "sale.created"
	for _, d := range []*v1alpha1.PostbackDelivery{failed, sale} {
		if err := f.sources[2].Update(d); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"phase": {Filter{Phase: v1alpha1.DeliveryFailed}, []string{"d02"}},
		"type":  {Filter{Event: "sale.created"}, []string{"d03"}},
		"time":  {Filter{Since: start.Add(2 * time.Second)}, []string{"d03", "d02"}},
		"text":  {Filter{Text: "EVT_D01"}, []string{"d01"}},
		"both":  {Filter{Text: "evt", Event: "lead.created", Phase: v1alpha1.DeliveryPending}, []string{"d01", "d00"}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, name, f.Page(crm, test.filter, "", "", 10).Rows, test.want...)
		})
	}
	newer, older := f.Neighbours(f.Row(types.NamespacedName{Namespace: "acme", Name: "d02"}), Filter{Event: "lead.created"})
	if newer != nil || older == nil || older.Name != "d01" {
		t.Errorf("beside d02 stand %v and %v", newer, older)
	}
}

func TestWhatChangedSince(t *testing.T) {
	f := filled(t, 3)
	subscription := f.Subscribe()
	defer subscription.Close()
	_, _, seen, _ := f.Since(crm, 0)
	// In the list after an outage, one row is unchanged, one changed, one is missing, and one is new.
	all := []any{stored("d00", 0, "1"), stored("d01", 1, "2"), stored("d03", 3, "1")}
	if err := f.sources[2].Replace(all, ""); err != nil {
		t.Fatal(err)
	}
	changed, removed, now, ok := f.Since(crm, seen)
	if !ok || now <= seen {
		t.Errorf("since %d it is %d, known %t", seen, now, ok)
	}
	check(t, "changed", changed, "d03", "d01")
	check(t, "removed", removed, "d02")
	<-subscription.C
	if taken := subscription.Take(); len(taken.Objects) != 1 || !taken.Objects[crm] {
		t.Errorf("told of %+v", taken)
	}
	if _, _, _, ok := f.Since(crm, now+1); ok {
		t.Error("a revision of another console is known")
	}
	// The feed forgets the oldest removals.
	for i := range maxRemoved + 10 {
		d := stored(fmt.Sprintf("x%05d", i), i, "1")
		if f.sources[2].Add(d) != nil || f.sources[2].Delete(d) != nil {
			t.Fatal("a row was not taken")
		}
	}
	if _, _, _, ok := f.Since(crm, now); ok {
		t.Error("what was removed is said to be known")
	}
}

func TestRowsHoldNoBody(t *testing.T) {
	d := stored("d00", 0, "1")
	d.Spec.Body = "body"
	d.Status.Attempts = []v1alpha1.Attempt{{Number: 1, Outcome: v1alpha1.OutcomeSucceeded, ResponseBody: "answer", Message: "message"}}
	stripObject(d)
	if d.Spec.Body != "" || d.Status.Attempts[0].ResponseBody != "" || d.Status.Attempts[0].Message != "" {
		t.Errorf("kept are %+v", d)
	}
}
