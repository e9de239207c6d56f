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
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

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
			written: map[types.UID]writtenBacklog{"crm": {5, now.Add(-time.Minute)}, "erp": {0, now.Add(-time.Hour)}},
			counts:  map[types.UID]int64{"crm": 5},
		},
		"unchanged for long, but the oldest may be another one": {
			written: map[types.UID]writtenBacklog{"crm": {5, now.Add(-backlogRenew)}, "erp": {0, now.Add(-time.Hour)}},
			counts:  map[types.UID]int64{"crm": 5}, want: []*route.Route{crm},
		},
		"the first deliveries are written at once": {
			written: map[types.UID]writtenBacklog{"crm": {0, now}, "erp": {0, now}},
			counts:  map[types.UID]int64{"crm": 1}, want: []*route.Route{crm},
		},
		"changed a moment ago": {
			written: map[types.UID]writtenBacklog{"crm": {5, now.Add(time.Second - backlogEvery)}, "erp": {0, now}},
			counts:  map[types.UID]int64{"crm": 6},
		},
		"changed long ago": {
			written: map[types.UID]writtenBacklog{"crm": {5, now.Add(-backlogEvery)}, "erp": {0, now}},
			counts:  map[types.UID]int64{"crm": 6}, want: []*route.Route{crm},
		},
		"drained": {
			written: map[types.UID]writtenBacklog{"crm": {5, now.Add(-backlogEvery)}, "erp": {0, now}},
			want:    []*route.Route{crm},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := &backlog{clock: clocktesting.NewFakePassiveClock(now), written: test.written}
			if got := b.due([]*route.Route{crm, erp}, test.counts); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
