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
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// The library counts the cost of a call after the call, and counts one for a call whose overload it does not know, which
// is so for most values of JSON. The guards bound each call before it is made, and count what it really does.

// maxCall is what a single call may cost, in the units of maxCost.
const maxCall = maxCost / 4

// guards know how expensive calls are. There is one for each filter.
type guards struct {
	implementations map[string]functions.FunctionOp
	patterns        map[string]*pattern
}

// guarded are the functions whose cost is more than that of reading their arguments once.
var guarded = []string{
	operators.In, operators.Add, "indexOf", "lastIndexOf", "split", setsContains, setsIntersects, setsEquivalent,
}

func newGuards(env *cel.Env, patterns map[string]*pattern) (*guards, error) {
	g := &guards{patterns: patterns, implementations: map[string]functions.FunctionOp{
		operators.Equals:    func(v ...ref.Val) ref.Val { return types.Equal(v[0], v[1]) },
		operators.NotEquals: func(v ...ref.Val) ref.Val { return types.Bool(types.Equal(v[0], v[1]) != types.True) },
	}}
	declared := env.Functions()
	for _, name := range guarded {
		declaration, ok := declared[name]
		if !ok {
			return nil, fmt.Errorf("CEL has no function %s", name)
		}
		bindings, err := declaration.Bindings()
		if err != nil {
			return nil, fmt.Errorf("CEL function %s: %w", name, err)
		}
		for _, binding := range bindings {
			if binding.Operator == name {
				g.implementations[name] = implementation(binding)
			}
		}
		if g.implementations[name] == nil {
			return nil, fmt.Errorf("CEL function %s has no implementation", name)
		}
	}
	g.implementations[overloads.Matches] = g.matches
	return g, nil
}

// implementation calls what a function is bound to, whatever the number of its arguments.
func implementation(o *functions.Overload) functions.FunctionOp {
	return func(values ...ref.Val) ref.Val {
		// Operators are bound to a method of their operand; "in" to that of the right one.
		operand := values[0]
		if o.Operator == operators.In {
			operand = values[1]
		}
		switch {
		case o.OperandTrait != 0 && !operand.Type().HasTrait(o.OperandTrait):
			return types.NoSuchOverloadErr()
		case o.Binary != nil && len(values) == 2:
			return o.Binary(values[0], values[1])
		case o.Function != nil:
			return o.Function(values...)
		default:
			return types.NoSuchOverloadErr()
		}
	}
}

func (g *guards) matches(values ...ref.Val) ref.Val {
	text, ok := values[0].(types.String)
	if !ok {
		return types.NoSuchOverloadErr()
	}
	p := g.patternOf(values)
	if p == nil {
		return types.NoSuchOverloadErr()
	}
	return types.Bool(p.re.MatchString(string(text)))
}

func (g *guards) patternOf(values []ref.Val) *pattern {
	if len(values) != 2 {
		return nil
	}
	text, ok := values[1].(types.String)
	if !ok {
		return nil
	}
	return g.patterns[string(text)]
}

// decorate puts a guard before each call that could be expensive.
func (g *guards) decorate(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok {
		return i, nil
	}
	function := call.Function()
	implementation := g.implementations[function]
	if implementation == nil {
		return i, nil
	}
	return interpreter.NewCall(call.ID(), function, call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
		if function == operators.Add && joinsLists(values) {
			return types.NewErrFromString(errLists)
		}
		if g.cost(function, values) > maxCall {
			return types.WrapErr(errCost)
		}
		return implementation(values...)
	}), nil
}

// joinsLists reports whether two lists are to be joined outside a macro, which has a mutable one.
func joinsLists(values []ref.Val) bool {
	if _, ok := values[0].(traits.MutableLister); ok {
		return false
	}
	_, ok := values[0].(traits.Lister)
	return ok
}

// CallCost implements interpreter.ActualCostEstimator.
func (g *guards) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	cost := uint64(g.cost(function, args))
	return &cost
}
