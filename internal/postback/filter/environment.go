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
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
)

// eventVariable is the name of the event in expressions.
const eventVariable = "event"

// environment is the set of functions and types for expressions. Fixed versions keep a newer library from changing
// the meaning of filters.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable(eventVariable, cel.MapType(cel.StringType, cel.DynType)),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EagerlyValidateDeclarations(true),
		cel.OptionalTypes(cel.OptionalTypesVersion(1)),
		ext.Strings(ext.StringsVersion(2)),
		sets(),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxParseDepth),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(maxNesting),
		),
	)
})

// Names of the sets extension's functions.
const (
	setsContains   = "sets.contains"
	setsIntersects = "sets.intersects"
	setsEquivalent = "sets.equivalent"
)

// sets is CEL's sets extension, without its rewriting of constants into other expressions.
func sets() cel.EnvOption {
	list := cel.ListType(cel.TypeParamType("T"))
	function := func(name, overload string, holds func(a, b traits.Lister) bool) cel.EnvOption {
		return cel.Function(name, cel.Overload(overload, []*cel.Type{list, list}, cel.BoolType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				x, ok := a.(traits.Lister)
				y, fits := b.(traits.Lister)
				if !ok || !fits {
					return noSuchOverload()
				}
				return types.Bool(holds(x, y))
			})))
	}
	return func(env *cel.Env) (*cel.Env, error) {
		var err error
		for _, option := range []cel.EnvOption{
			function(setsContains, "list_sets_contains_list", hasAll),
			function(setsIntersects, "list_sets_intersects_list", hasAny),
			function(setsEquivalent, "list_sets_equivalent_list", func(a, b traits.Lister) bool { return hasAll(a, b) && hasAll(b, a) }),
		} {
			if env, err = option(env); err != nil {
				return nil, err
			}
		}
		return env, nil
	}
}

func hasAll(list, elements traits.Lister) bool {
	for it := elements.Iterator(); it.HasNext() == types.True; {
		if list.Contains(it.Next()) != types.True {
			return false
		}
	}
	return true
}

func hasAny(list, elements traits.Lister) bool {
	for it := elements.Iterator(); it.HasNext() == types.True; {
		if list.Contains(it.Next()) == types.True {
			return true
		}
	}
	return false
}
