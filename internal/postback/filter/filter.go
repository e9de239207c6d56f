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

// Package filter decides whether an event is sent, by a CEL expression over the event. An expression is compiled
// once, and the cost of an evaluation is bounded. The result depends only on the event, not on the time, a map's
// order, or the machine.
package filter

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

const (
	// maxExpression bounds an expression, in characters. The CRD has the same bound.
	maxExpression = 4096
	// maxNesting bounds how deep macros (exists, all, filter, map, ...) may be nested.
	maxNesting = 4
	// maxParseDepth bounds how deep an expression may be nested otherwise.
	maxParseDepth = 100
	// maxCost bounds the cost of one evaluation, which is some tens of milliseconds. The cost is about 1 for each
	// operator, each value that is looked up or compared, and each ten characters of text.
	maxCost = 1_000_000
)

// Filter is a compiled expression. It is safe for concurrent use.
type Filter struct {
	program cel.Program
	source  *ast.SourceInfo
	// names are the keys that the expression spells out. Errors may quote only these, because other keys come from
	// the event.
	names map[string]bool
}

// Compile compiles a CEL expression (https://github.com/google/cel-spec). The variable "event" has id, event (the
// type) and createdAt as strings, and data as the JSON object. The strings, sets and optional types extensions are
// available as in Kubernetes, except functions that can build text of any length. The error is a *CompileError.
func Compile(expression string) (*Filter, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(expression)
	if issues != nil && len(issues.Errors()) > 0 {
		return nil, compileError(issues.Errors())
	}
	r := newRules(checked.NativeRep())
	if err := r.check(); err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, &CompileError{Line: 1, Column: 1, Detail: fmt.Sprintf("gives a value of type %s: it must give true or false", out)}
	}
	calls, err := newCalls(env, r.patterns)
	if err != nil {
		return nil, err
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(calls.decorate), cel.InterruptCheckFrequency(1))
	if err != nil {
		// A wrong constant, such as int("x"), fails only here. The error's text may be long, and has no position.
		return nil, &CompileError{Line: 1, Column: 1, Detail: shorten(err.Error())}
	}
	return &Filter{program: program, source: checked.NativeRep().SourceInfo(), names: r.names}, nil
}

// Matches reports whether the filter selects the event. An error describes the failure and its position in the
// expression, never a value of the event. If ctx has ended, the error wraps its cause.
func (f *Filter) Matches(ctx context.Context, in *Input) (bool, error) {
	vars, err := in.variables()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &budget{Activation: vars, left: maxCost, end: cancel}
	out, _, err := f.program.ContextEval(ctx, b)
	switch {
	case b.exhausted():
		return false, errCost
	case err != nil:
		return false, f.evalError(ctx, err)
	}
	matches, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("gives a value of type %s: it must give true or false", out.Type().TypeName())
	}
	return bool(matches), nil
}

var errCost = errors.New("exceeds the budget of a filter: let it read less of the event")
