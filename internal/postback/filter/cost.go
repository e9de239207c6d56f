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

package filter

import (
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

const (
	// charactersPerUnit is the number of bytes of text that one unit of cost reads.
	charactersPerUnit = 10
	// stepsPerUnit is the number of regular expression steps, or character comparisons, in one unit of cost.
	stepsPerUnit = 16
)

// cost returns the cost of a call, derived from its arguments. Its own run time is bounded by that cost.
func (c *calls) cost(function string, args []ref.Val) int {
	cost := 1
	for _, arg := range args {
		cost += textLength(arg) / charactersPerUnit
	}
	if len(args) < 2 {
		return cost
	}
	switch function {
	case operators.Equals, operators.NotEquals:
		cost += comparison(args[0], args[1])
	case operators.In:
		cost += search(args[0], args[1])
	case setsContains, setsIntersects:
		cost += searches(args[0], args[1])
	case setsEquivalent:
		cost += 2 * searches(args[0], args[1])
	case "indexOf", "lastIndexOf":
		cost += textLength(args[0]) * textLength(args[1]) / stepsPerUnit
	case "split":
		cost += textLength(args[0])
	case overloads.Matches:
		if p := c.patternOf(args); p != nil {
			cost += textLength(args[0]) * p.size / stepsPerUnit
		}
	}
	return cost
}

func textLength(v ref.Val) int {
	switch text := v.(type) {
	case types.String:
		return len(text)
	case types.Bytes:
		return len(text)
	default:
		return 0
	}
}

// comparison returns the cost of comparing two values for equality, apart from the length of texts.
func comparison(a, b ref.Val) int {
	if size := length(a); size < 0 || size != length(b) {
		return 0
	}
	return weight(a, 0)
}

// search returns the cost of searching a value in a list. It is 0 for a map, which needs only a look-up.
func search(v, in ref.Val) int {
	list, ok := in.(traits.Lister)
	if !ok {
		return 0
	}
	return multiply(length(list), weight(v, 0))
}

// searches returns the cost of searching each element of one list in another.
func searches(a, b ref.Val) int {
	return max(multiply(length(a), weight(b, 0)), multiply(length(b), weight(a, 0)))
}

func multiply(a, b int) int {
	if a > 0 && b > maxCost/a {
		return maxCost + 1
	}
	return max(a, 0) * b
}

// length returns the number of elements of a list or map, or -1 for other values. An optional value has the length of
// its content.
func length(v ref.Val) int {
	switch v := v.(type) {
	case *types.Optional:
		if v.HasValue() {
			return length(v.GetValue())
		}
	case traits.Lister:
		return sizeOf(v)
	case traits.Mapper:
		return sizeOf(v)
	}
	return -1
}

func sizeOf(v traits.Sizer) int {
	if size, ok := v.Size().(types.Int); ok {
		return int(size)
	}
	return maxCost + 1
}

// weight counts the values inside a value; texts count by their length. A value that occurs in several places counts
// in each, because a comparison visits it in each. weight stops soon after maxCost.
func weight(v ref.Val, sum int) int {
	sum += 1 + textLength(v)/charactersPerUnit
	if sum > maxCost {
		return sum
	}
	switch v := v.(type) {
	case *types.Optional:
		if v.HasValue() {
			return weight(v.GetValue(), sum)
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && sum <= maxCost; {
			sum = weight(it.Next(), sum)
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && sum <= maxCost; {
			key := it.Next()
			sum = weight(v.Get(key), sum+1)
		}
	}
	return sum
}
