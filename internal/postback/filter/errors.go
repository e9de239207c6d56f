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
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
)

// maxDetail bounds the detail of an error, in bytes, so that it fits into a condition.
const maxDetail = 200

// CompileError describes why an expression is not a valid filter.
type CompileError struct {
	// Line and Column of the mistake, both counted from 1.
	Line, Column int
	// Detail describes the mistake, in at most 200 bytes and without line breaks.
	Detail string
	// More is the number of further mistakes.
	More int
}

func (e *CompileError) Error() string {
	text := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Detail)
	if e.More > 0 {
		text += fmt.Sprintf(" (and %d more)", e.More)
	}
	return text
}

func compileError(mistakes []*common.Error) *CompileError {
	first := mistakes[0]
	detail := strings.ReplaceAll(first.Message, " (in container '')", "")
	return &CompileError{
		Line: max(first.Location.Line(), 1), Column: max(first.Location.Column()+1, 1),
		Detail: shorten(detail), More: len(mistakes) - 1,
	}
}

// shorten returns a text as one line of at most maxDetail bytes.
func shorten(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) <= maxDetail {
		return text
	}
	cut := maxDetail - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// evalError describes a failure without the library's text, because that text quotes values of the event.
func (f *Filter) evalError(ctx context.Context, err error) error {
	if errors.Is(err, interpreter.InterruptError{}) {
		return fmt.Errorf("not evaluated in time: %w", context.Cause(ctx))
	}
	detail := f.classify(err.Error())
	var at *types.Err
	if errors.As(err, &at) && at.NodeID() != 0 {
		if location := f.source.GetStartLocation(at.NodeID()); location.Line() > 0 {
			return fmt.Errorf("line %d, column %d: %s", location.Line(), location.Column()+1, detail)
		}
	}
	return errors.New(detail)
}

// causes are the beginnings of the library's error texts, and their replacements.
var causes = []struct{ begins, says string }{
	{"no such overload", "no such overload: a value has the wrong type"},
	{"index", "no such element: the index is out of range"},
	{"division by zero", "division by zero"},
	{"modulus by zero", "modulus by zero"},
	{"optional.none() dereference", "the optional value is absent"},
	{"type conversion error", "a value cannot be converted to this type"},
	{"strconv.", "a value cannot be converted to this type"},
	{"integer overflow", "integer overflow"},
	{"unsigned integer overflow", "integer overflow"},
	{"timestamp overflow", "timestamp overflow"},
	{"duration overflow", "duration overflow"},
	{errLists, errLists},
}

func (f *Filter) classify(text string) string {
	if key, ok := strings.CutPrefix(text, "no such key: "); ok {
		if f.names[key] {
			return shorten("no such key: " + key)
		}
		return "no such key"
	}
	for _, cause := range causes {
		if strings.HasPrefix(text, cause.begins) {
			return cause.says
		}
	}
	return "a value has the wrong type"
}
