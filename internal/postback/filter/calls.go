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

// calls wraps the parts of one filter's expression so that they charge its budget.
type calls struct {
	implementations map[string]functions.FunctionOp
	patterns        map[string]*pattern
}

func newCalls(env *cel.Env, patterns map[string]*pattern) (*calls, error) {
	c := &calls{implementations: map[string]functions.FunctionOp{}, patterns: patterns}
	for name, declaration := range env.Functions() {
		bindings, err := declaration.Bindings()
		if err != nil {
			return nil, fmt.Errorf("CEL function %s: %w", name, err)
		}
		for _, binding := range bindings {
			// A non-strict function accepts errors as arguments, as macros need. It costs only 1.
			if binding.Operator == name && !binding.NonStrict {
				c.implementations[name] = implementation(binding)
			}
		}
	}
	// The library evaluates these operators itself, without a binding.
	c.implementations[operators.Equals] = func(v ...ref.Val) ref.Val { return types.Equal(v[0], v[1]) }
	c.implementations[operators.NotEquals] = func(v ...ref.Val) ref.Val { return types.Bool(types.Equal(v[0], v[1]) != types.True) }
	c.implementations[operators.Add] = add(c.implementations[operators.Add])
	c.implementations[operators.In] = func(v ...ref.Val) ref.Val {
		if container, ok := v[1].(traits.Container); ok {
			return container.Contains(v[0])
		}
		return noSuchOverload()
	}
	c.implementations[overloads.Matches] = c.matches
	return c, nil
}

// noSuchOverload returns a new error each time, because the library writes the expression's position into it.
func noSuchOverload() ref.Val { return types.NewErrFromString("no such overload") }

// implementation calls the binding of a function, with any number of arguments.
func implementation(o *functions.Overload) functions.FunctionOp {
	return func(values ...ref.Val) ref.Val {
		if o.OperandTrait != 0 && !values[0].Type().HasTrait(o.OperandTrait) {
			return noSuchOverload()
		}
		switch {
		case o.Unary != nil && len(values) == 1:
			return o.Unary(values[0])
		case o.Binary != nil && len(values) == 2:
			return o.Binary(values[0], values[1])
		case o.Function != nil:
			return o.Function(values...)
		default:
			return noSuchOverload()
		}
	}
}

// add refuses to join lists, except in macros, which append to a mutable list. A list that is joined with itself
// again and again soon has too many elements to visit.
func add(implementation functions.FunctionOp) functions.FunctionOp {
	return func(values ...ref.Val) ref.Val {
		_, mutable := values[0].(traits.MutableLister)
		if _, ok := values[0].(traits.Lister); ok && !mutable {
			return types.NewErrFromString(errLists)
		}
		return implementation(values...)
	}
}

func (c *calls) matches(values ...ref.Val) ref.Val {
	text, ok := values[0].(types.String)
	p := c.patternOf(values)
	if !ok || p == nil {
		return noSuchOverload()
	}
	return types.Bool(p.re.MatchString(string(text)))
}

func (c *calls) patternOf(values []ref.Val) *pattern {
	if len(values) != 2 {
		return nil
	}
	text, ok := values[1].(types.String)
	if !ok {
		return nil
	}
	return c.patterns[string(text)]
}

// decorate replaces a part of an expression by one that charges the budget.
func (c *calls) decorate(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch part := i.(type) {
	case *paidAttribute:
		return part, nil
	case interpreter.InterpretableAttribute:
		return &paidAttribute{part}, nil
	case interpreter.InterpretableCall:
		if c.implementations[part.Function()] == nil || len(part.Args()) == 0 {
			return &paidCall{part}, nil
		}
		return &measuredCall{part, c, part.Function()}, nil
	default:
		return i, nil
	}
}
