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
	"context"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// The library's own accounting has three faults. It counts a call only after the call. It counts one for a call with an
// overload unknown at compile time, as for most values of JSON. Its time grows with the square of the count. So there is
// a budget of our own: each call, and each value that is looked up, is paid before.

// budgetName is a variable that no expression can name, under which the parts of an expression find the budget.
const budgetName = "@budget"

// budget is the remaining cost that an evaluation may have.
type budget struct {
	cel.Activation
	left int
	// end makes macros stop. An error alone does not: a macro continues after it, because a later
	// value may absorb it.
	end context.CancelCauseFunc
}

// ResolveName implements cel.Activation.
func (b *budget) ResolveName(name string) (any, bool) {
	if name == budgetName {
		return b, true
	}
	return b.Activation.ResolveName(name)
}

func (b *budget) exhausted() bool { return b.left < 0 }

// spend charges a cost, and reports whether the budget covered it.
func (b *budget) spend(cost int) bool {
	if b.left < 0 {
		return false
	}
	b.left -= cost
	if b.left < 0 {
		b.end(errCost)
		return false
	}
	return true
}

// pay charges a cost to the budget of an evaluation, and reports whether the budget covered it. Constant evaluation at compile time costs nothing.
func pay(frame *interpreter.ExecutionFrame, cost int) bool {
	found, ok := frame.ResolveName(budgetName)
	if !ok {
		return true
	}
	b, ok := found.(*budget)
	return !ok || b.spend(cost)
}

// paidAttribute is a value that is looked up, such as event.data.amount, or a condition.
type paidAttribute struct {
	interpreter.InterpretableAttribute
}

// AddQualifier implements interpreter.InterpretableAttribute.
func (a *paidAttribute) AddQualifier(q interpreter.Qualifier) (interpreter.Attribute, error) {
	if paid, ok := q.(*paidAttribute); ok {
		q = paid.Attr()
	}
	_, err := a.InterpretableAttribute.AddQualifier(q)
	return a, err
}

// Exec implements interpreter.InterpretableV2.
func (a *paidAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	if !pay(frame, 1) {
		return types.WrapErr(errCost)
	}
	return a.InterpretableAttribute.Exec(frame)
}

// Eval implements interpreter.Interpretable.
func (a *paidAttribute) Eval(vars interpreter.Activation) ref.Val {
	return a.Exec(interpreter.AsFrame(vars))
}

// paidCall is a call whose cost does not depend on its arguments.
type paidCall struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *paidCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	if !pay(frame, 1) {
		return types.WrapErr(errCost)
	}
	return c.InterpretableCall.Exec(frame)
}

// Eval implements interpreter.Interpretable.
func (c *paidCall) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// measuredCall is a call that is paid for when its arguments are known.
type measuredCall struct {
	interpreter.InterpretableCall
	calls    *calls
	function string
}

// Exec implements interpreter.InterpretableV2.
func (c *measuredCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	args := c.Args()
	values := make([]ref.Val, len(args))
	for i, arg := range args {
		if values[i] = arg.Exec(frame); types.IsUnknownOrError(values[i]) {
			return values[i]
		}
	}
	if !pay(frame, c.calls.cost(c.function, values)) {
		return types.WrapErr(errCost)
	}
	return types.LabelErrNode(c.ID(), c.calls.implementations[c.function](values...))
}

// Eval implements interpreter.Interpretable.
func (c *measuredCall) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// Function implements interpreter.InterpretableCall. It hides the name of matches, by which the library would replace the
// call by one of its own.
func (c *measuredCall) Function() string {
	if c.function == overloads.Matches {
		return "measured " + c.function
	}
	return c.function
}
