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

// The library's own cost accounting has three faults. It counts a call only after the call. It counts 1 for a call
// whose overload is unknown at compile time, as for most JSON values. Its time grows with the square of the count. So
// this package charges a budget of its own before each call, and before each look-up of a value.

// budgetName is the variable that holds the budget during an evaluation. No expression can spell it.
const budgetName = "@budget"

// budget is the cost that an evaluation may still spend.
type budget struct {
	cel.Activation
	left int
	// end stops macros by ending the context. An error alone does not stop a macro, because a later value may absorb
	// the error.
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

// pay charges a cost to the budget of an evaluation, and reports whether the budget covered it. Constant evaluation
// at compile time has no budget and costs nothing.
func pay(frame *interpreter.ExecutionFrame, cost int) bool {
	found, ok := frame.ResolveName(budgetName)
	if !ok {
		return true
	}
	b, ok := found.(*budget)
	return !ok || b.spend(cost)
}

// payAndExec charges the cost of one step, and evaluates it if the budget covered that.
func payAndExec(frame *interpreter.ExecutionFrame, step interpreter.InterpretableV2) ref.Val {
	if !pay(frame, 1) {
		return types.WrapErr(errCost)
	}
	return step.Exec(frame)
}

// paidAttribute charges for the look-up of a value, such as event.data.amount, or for a condition.
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
	return payAndExec(frame, a.InterpretableAttribute)
}

// Eval implements interpreter.Interpretable.
func (a *paidAttribute) Eval(vars interpreter.Activation) ref.Val {
	return a.Exec(interpreter.AsFrame(vars))
}

// paidCall charges for a call whose cost does not depend on its arguments. It is like paidAttribute but for the
// interface that it embeds, by which the interpreter tells the two apart.
type paidCall struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *paidCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return payAndExec(frame, c.InterpretableCall)
}

// Eval implements interpreter.Interpretable.
func (c *paidCall) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// measuredCall charges for a call whose cost depends on its arguments, after they are evaluated.
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

// Function implements interpreter.InterpretableCall. It hides the name "matches", because the library would replace a
// call of that name by its own.
func (c *measuredCall) Function() string {
	if c.function == overloads.Matches {
		return "measured " + c.function
	}
	return c.function
}
