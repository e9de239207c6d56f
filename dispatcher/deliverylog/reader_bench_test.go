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
	"fmt"
	"testing"

	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// BenchmarkList measures List on a delivery log of many deliveries. It also checks that List finds the few oldest ones, of the
// least busy Postback.
func BenchmarkList(b *testing.B) {
	const rare, postbacks, limit = 10, 100, 50
	for _, n := range []int{10_000, 1_000_000} {
		s := newSuite(b)
		first := s.log(b, s.postback("quiet", "shop"), "sale.created", rare)
		routes := make([]*route.Route, postbacks)
		for i := range routes {
			routes[i] = s.postback("busy", fmt.Sprintf("shop-%d", i))
		}
		var last []string
		for i := 0; i < n; i += postbacks {
			for _, r := range routes {
				last = s.publish(b, r, "sale.created", 1)
			}
		}
		s.published(b)
		for _, test := range []struct {
			name  string
			query Query
			want  int
		}{
			{"all", Query{}, limit},
			{"namespace", Query{Namespace: "busy"}, limit},
			{"postback", Query{Namespace: "busy", Postback: "shop-7"}, limit},
			{"quiet namespace", Query{Namespace: "quiet"}, rare},
			{"one that is not there", Query{Namespace: "busy", EventID: "evt_0"}, 0},
			{"type that is not there", Query{EventType: "lead.created"}, 0},
		} {
			b.Run(fmt.Sprintf("%s of %d", test.name, n), func(b *testing.B) {
				for b.Loop() {
					p, err := s.reader.List(b.Context(), test.query, 0, limit)
					if err != nil || len(p.Deliveries) != test.want {
						b.Fatalf("%d deliveries, not %d: %v", len(p.Deliveries), test.want, err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("get of %d", n), func(b *testing.B) {
			for b.Loop() {
				for namespace, name := range map[string]string{"quiet": first[0], "busy": last[0]} {
					if d, err := s.reader.Get(b.Context(), namespace, name); err != nil || d == nil {
						b.Fatalf("%v, %v", d, err)
					}
				}
			}
		})
	}
}
