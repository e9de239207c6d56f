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

package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestLogsAreDocumented: docs/logs.md has each message and each key that a program can log.
func TestLogsAreDocumented(t *testing.T) {
	text := read(t, "docs", "logs.md")
	messages := 0
	for _, dir := range []string{"controllers", "dispatcher", "cmd/manager", "cmd/dispatcher", "internal/start", "internal/watched"} {
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				if !ok {
					return true
				}
				message, keys := logged(call)
				if message != "" {
					messages++
				}
				for _, word := range append(keys, message) {
					if word != "" && !strings.Contains(text, "`"+word+"`") {
						t.Errorf("docs/logs.md does not mention %q of %s", word, path)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if messages < 50 {
		t.Errorf("%d messages were found", messages)
	}
	for name, action := range stringConstants(t, "internal/audit/audit.go", "Action") {
		if !strings.Contains(text, "\n| `"+action+"` |") {
			t.Errorf("docs/logs.md has no row of %s, %s", name, action)
		}
	}
}

// logged returns the message and the keys of a logging call, if they are literals.
func logged(call *ast.CallExpr) (message string, keys []string) {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", nil
	}
	first := map[string]int{"WithValues": 0, "Info": 1, "Error": 2}
	at, logs := first[selector.Sel.Name]
	if !logs || len(call.Args) < at {
		return "", nil
	}
	if at > 0 {
		if message = literal(call.Args[at-1]); message == "" {
			return "", nil
		}
	}
	for i := at; i < len(call.Args); i += 2 {
		keys = append(keys, literal(call.Args[i]))
	}
	return message, keys
}

// literal returns the text of a string literal, or "".
func literal(expression ast.Expr) string {
	if basic, ok := expression.(*ast.BasicLit); ok && basic.Kind == token.STRING {
		if text, err := strconv.Unquote(basic.Value); err == nil {
			return text
		}
	}
	return ""
}
