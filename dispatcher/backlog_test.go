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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func TestBacklogsDue(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	crm, erp := &route.Route{UID: "crm"}, &route.Route{UID: "erp"}
	tests := map[string]struct {
		written map[types.UID]writtenBacklog
		counts  map[types.UID]int64
		want    []*route.Route
	}{
		"a new owner writes all, those with a backlog first": {counts: map[types.UID]int64{"erp": 7}, want: []*route.Route{erp, crm}},
		"unchanged": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-time.Minute)}, "erp": {deliveries: 0, at: now.Add(-time.Hour)}},
			counts:  map[types.UID]int64{"crm": 5},
		},
		"unchanged for long, but the oldest may be another one": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-backlogRenew)}, "erp": {deliveries: 0, at: now.Add(-time.Hour)}},
			counts:  map[types.UID]int64{"crm": 5}, want: []*route.Route{crm},
		},
		"the first deliveries are written at once": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 0, at: now}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 1}, want: []*route.Route{crm},
		},
		"the next attempt is due by now": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-time.Minute), next: now}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 5}, want: []*route.Route{crm},
		},
		"an attempt was due when it was written": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-time.Minute), next: now.Add(-time.Hour)}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 5},
		},
		"resumed": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-time.Minute), reason: v1alpha1.BacklogPaused}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 5}, want: []*route.Route{crm},
		},
		"changed a moment ago": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(time.Second - backlogEvery)}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 6},
		},
		"changed long ago": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-backlogEvery)}, "erp": {deliveries: 0, at: now}},
			counts:  map[types.UID]int64{"crm": 6}, want: []*route.Route{crm},
		},
		"drained": {
			written: map[types.UID]writtenBacklog{"crm": {deliveries: 5, at: now.Add(-backlogEvery)}, "erp": {deliveries: 0, at: now}},
			want:    []*route.Route{crm},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := &backlog{clock: clocktesting.NewFakePassiveClock(now), written: test.written, gone: func(*route.Route) bool { return false }}
			if got := b.due([]*route.Route{crm, erp}, test.counts); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestUnplanned(t *testing.T) {
	tests := map[string]struct {
		state v1alpha1.PostbackState
		gone  bool
		want  v1alpha1.BacklogReason
	}{
		"enabled":           {state: v1alpha1.PostbackEnabled},
		"paused":            {state: v1alpha1.PostbackPaused, want: v1alpha1.BacklogPaused},
		"disabled":          {state: v1alpha1.PostbackDisabled, want: v1alpha1.BacklogDisabled},
		"answered 410":      {state: v1alpha1.PostbackEnabled, gone: true, want: v1alpha1.BacklogGone},
		"paused, after 410": {state: v1alpha1.PostbackPaused, gone: true, want: v1alpha1.BacklogPaused},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := unplanned(test.state, test.gone); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestWarningsOfACrowdedStream(t *testing.T) {
	now := clocktesting.NewFakeClock(time.Unix(1_000_000, 0))
	recorder := events.NewFakeRecorder(10)
	var logged []string
	log := funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{})
	b := &backlog{routes: route.NewIndex(), events: recorder, clock: now, log: log}
	b.routes.Set(&route.Route{Namespace: "acme", Name: "crm", UID: "crm"})
	b.routes.Set(&route.Route{Namespace: "acme", Name: "erp", UID: "erp"})
	crowding := jetstream.Crowding{Used: 0.96, Holders: []jetstream.Holder{{Postback: "crm", Share: 0.6}, {Postback: "deleted", Share: 0.2}, {Postback: "erp", Share: 0.1}}}

	b.warn(jetstream.Crowding{Used: 0.5})
	if len(logged) != 0 {
		t.Fatalf("a stream with room is logged: %v", logged)
	}
	b.warn(crowding)
	now.Step(warnEvery - time.Second)
	b.warn(crowding)
	if len(logged) != 1 || !strings.Contains(logged[0], "acme/crm 60%, acme/erp 10%") || !strings.Contains(logged[0], "96%") {
		t.Errorf("logged %v", logged)
	}
	if got := len(recorder.Events); got != 2 {
		t.Errorf("%d Kubernetes Events, want 2", got)
	}
	now.Step(time.Second)
	b.warn(crowding)
	if len(logged) != 2 {
		t.Errorf("logged %d times, want 2 after %s", len(logged), warnEvery)
	}
}
