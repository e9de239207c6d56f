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

package jetstream

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestObjectsOfFailuresAreBounded(t *testing.T) {
	f := newFailureObjects()
	taken := func(key postbackKey, n int) (made int) {
		for range n {
			if f.take(key, noon) {
				made++
				f.done()
			}
		}
		return made
	}
	one, other := postbackKey{"partner", "one"}, postbackKey{"partner", "other"}
	if n := taken(one, 10*maxObjects); n != maxObjects {
		t.Errorf("%d are made for one Postback, want %d", n, maxObjects)
	}
	if n := taken(other, 1); n != 0 {
		t.Errorf("%d more are made in the same moment", n)
	}
	noon := noon.Add(objectEvery)
	if !f.take(one, noon) || f.take(one, noon) {
		t.Errorf("one more is due for the first Postback after %s", objectEvery)
	}
	if !f.take(other, noon) {
		t.Error("the other Postback has objects left")
	}
}

func TestLimitersOfFailuresAreForgotten(t *testing.T) {
	f := newFailureObjects()
	for i := range 10 * sweepLimiters {
		f.limiter(postbackKey{"partner", types.UID(fmt.Sprint(i))}, noon)
	}
	if n := len(f.postbacks); n > sweepLimiters {
		t.Errorf("there are %d limiters", n)
	}
}
