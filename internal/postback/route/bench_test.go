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

package route

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// BenchmarkMatch finds one route among many in a namespace.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			x := NewIndex()
			for i := range n {
				x.Set(&Route{
					Namespace: "tenant", UID: types.UID(fmt.Sprint(i)),
					Triggers: []v1alpha1.Trigger{"sale.*", v1alpha1.Trigger(fmt.Sprintf("lead.created-%d", i))},
				})
			}
			for b.Loop() {
				if found := x.Match("tenant", "lead.created-0"); len(found) != 1 {
					b.Fatalf("%d routes match, not 1", len(found))
				}
			}
		})
	}
}
