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
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
)

// maxPattern bounds a regular expression, in instructions of its program: (ab?){50} has about 150.
const maxPattern = 1000

// rules restrict filters more than CEL does, so that their cost is bounded and their result depends only on the
// event.
type rules struct {
	checked *ast.AST
	names   map[string]bool
	// patterns holds the compiled regular expressions by their text.
	patterns map[string]*pattern
	err      *CompileError
}

// pattern is a regular expression and its size in instructions.
type pattern struct {
	re   *regexp.Regexp
	size int
}

func newRules(checked *ast.AST) *rules {
	return &rules{checked: checked, names: map[string]bool{}, patterns: map[string]*pattern{}}
}

// check returns the first violation of a rule, as a *CompileError, or nil.
func (r *rules) check() error {
	ast.PreOrderVisit(r.checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			r.names[e.AsSelect().FieldName()] = true
			r.field(e, e.AsSelect().Operand(), e.AsSelect().FieldName())
		case ast.LiteralKind:
			if text, ok := e.AsLiteral().(types.String); ok {
				r.names[string(text)] = true
			}
		case ast.MapKind, ast.StructKind:
			r.refuse(e, "maps and messages cannot be written in a filter")
		case ast.ComprehensionKind:
			if c := e.AsComprehension(); c.IterVar() == eventVariable || c.AccuVar() == eventVariable {
				r.refuse(e, "the name event is reserved: give the variable another one")
			}
		case ast.CallKind:
			r.call(e, e.AsCall())
		default:
		}
	}))
	if r.err != nil {
		return r.err
	}
	return nil
}

func (r *rules) refuse(e ast.Expr, format string, args ...any) {
	if r.err != nil {
		return
	}
	at := r.checked.SourceInfo().GetStartLocation(e.ID())
	r.err = &CompileError{Line: max(at.Line(), 1), Column: max(at.Column()+1, 1), Detail: shorten(fmt.Sprintf(format, args...))}
}

// field refuses a field that no event has: it is a typo.
func (r *rules) field(e, operand ast.Expr, name string) {
	if operand.Kind() != ast.IdentKind || strings.TrimPrefix(operand.AsIdent(), ".") != eventVariable {
		return
	}
	switch name {
	case "id", "event", "createdAt", "data":
	default:
		r.refuse(e, "event has no field %s: it has id, event, createdAt and data", name)
	}
}

func (r *rules) call(e ast.Expr, c ast.CallExpr) {
	args := c.Args()
	switch name := c.FunctionName(); name {
	case operators.Index, operators.OptIndex, operators.OptSelect:
		if len(args) == 2 {
			if field, ok := literal(args[1]); ok {
				r.field(e, args[0], field)
			}
		}
	case "replace", "join", "format", "strings.quote":
		// These functions can make a text of any length from a short one.
		r.refuse(e, "the function %s is not available in a filter", name)
	case operators.Add:
		// The length of a list could double with each use. Macros append to lists in another way.
		ids := r.checked.GetOverloadIDs(e.ID())
		if len(ids) == 1 && ids[0] == overloads.AddList && !accumulates(args[0]) {
			r.refuse(e, errLists)
		}
	case overloads.Matches:
		r.pattern(e, args)
	default:
		if strings.HasPrefix(name, "get") && c.IsMemberFunction() && len(args) == 1 {
			r.zone(e, args[0])
		}
	}
}

const errLists = "lists cannot be joined with +"

// accumulates reports whether an operand is the list that a macro appends to.
func accumulates(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && strings.HasPrefix(e.AsIdent(), "@")
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// pattern compiles a constant regular expression, and refuses any other. One from an event could be as large as the
// event.
func (r *rules) pattern(e ast.Expr, args []ast.Expr) {
	text, ok := literal(args[len(args)-1])
	if !ok {
		r.refuse(e, "the pattern of matches must be a string constant")
		return
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		r.refuse(e, "the pattern of matches is not valid: %s", err)
		return
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxPattern {
		r.refuse(e, "the pattern of matches is too large: repeat less in it")
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		r.refuse(e, "the pattern of matches is not valid: %s", err)
		return
	}
	r.patterns[text] = &pattern{re: re, size: len(program.Inst)}
}

var zonePattern = regexp.MustCompile(`^(UTC|[+-]?\d\d:\d\d)$`)

// zone refuses names of time zones, because their meaning depends on the machine's files.
func (r *rules) zone(e, zone ast.Expr) {
	if text, ok := literal(zone); !ok || !zonePattern.MatchString(text) {
		r.refuse(e, `the time zone must be "UTC" or an offset such as "+02:00"`)
	}
}
