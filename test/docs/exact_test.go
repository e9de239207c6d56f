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
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/internal/start"
)

// stringConstants returns the string constants of a Go file whose names begin or end with affix.
func stringConstants(t *testing.T, path, affix string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), path), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i >= len(spec.Values) || !strings.HasSuffix(name.Name, affix) && !strings.HasPrefix(name.Name, affix) {
				continue
			}
			if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if value, err := strconv.Unquote(literal.Value); err == nil {
					found[name.Name] = value
				}
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatalf("%s has no constants %s", path, affix)
	}
	return found
}

func TestConstantsAreDocumented(t *testing.T) {
	const types = "api/v1alpha1/"
	for _, c := range []struct{ file, affix, page string }{
		{types + "postback_status_types.go", "Reason", "docs/postbacks.md"},
		{types + "postback_status_types.go", "Condition", "docs/postbacks.md"},
		{types + "postbacksecret_types.go", "Reason", "docs/postbacksecrets.md"},
		{types + "postbacksecret_types.go", "Condition", "docs/postbacksecrets.md"},
		{types + "postbackdelivery_status_types.go", "Reason", "docs/postbackdeliveries.md"},
		{types + "postbackdelivery_status_types.go", "Condition", "docs/postbackdeliveries.md"},
		{types + "postbackdelivery_status_types.go", "Outcome", "docs/postbackdeliveries.md"},
		{types + "postbackdelivery_status_types.go", "Delivery", "docs/postbackdeliveries.md"},
		{types + "metadata.go", "Annotation", "docs/labels-and-annotations.md"},
		{types + "metadata.go", "Label", "docs/labels-and-annotations.md"},
		{types + "metadata.go", "Finalizer", "docs/labels-and-annotations.md"},
		{types + "metadata.go", "FieldOwner", "docs/labels-and-annotations.md"},
		{"internal/postback/keyring/secret.go", "Annotation", "docs/labels-and-annotations.md"},
	} {
		t.Run(c.affix+" of "+c.file, func(t *testing.T) {
			text := read(t, c.page)
			for name, value := range stringConstants(t, c.file, c.affix) {
				if !strings.Contains(text, "`"+value+"`") {
					t.Errorf("%s does not mention %s `%s`", c.page, name, value)
				}
			}
		})
	}
}

// TestFlagsAreDocumented: the page of flags has all flags of the code, each with its field, and no page names a flag
// that does not exist.
func TestFlagsAreDocumented(t *testing.T) {
	flag := regexp.MustCompile(`flag\.\w+Var\([^"]*"([a-z-]+)"`)
	text := read(t, "docs", "configuration.md")
	for _, program := range []string{"manager", "dispatcher"} {
		t.Run(program, func(t *testing.T) {
			_, section, _ := strings.Cut(text, "<!-- flags of the "+program+" -->")
			section, _, _ = strings.Cut(section, "<!-- end -->")
			flags := flag.FindAllStringSubmatch(read(t, "cmd", program, "main.go"), -1)
			if len(flags) == 0 {
				t.Errorf("%s has no flags", program)
			}
			for _, match := range flags {
				if !strings.Contains(section, "| `--"+match[1]+"` | `"+start.Field(match[1])+"` |") {
					t.Errorf("docs/configuration.md does not mention the flag --%s of the %s: run make docs", match[1], program)
				}
			}
		})
	}
	for _, match := range regexp.MustCompile("(?m)^\\| (`--.*?) \\| (?:manager|dispatcher|both) \\|").FindAllStringSubmatch(read(t, "docs", "operations.md"), -1) {
		for _, name := range strings.Split(match[1], ", ") {
			if !strings.Contains(text, "| "+name+" |") {
				t.Errorf("docs/operations.md mentions %s, which is no flag", name)
			}
		}
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	metric := regexp.MustCompile(`"(postback_[a-z_]+)"`)
	text := read(t, "docs", "metrics.md")
	found := 0
	for _, dir := range []string{"dispatcher", "controllers"} {
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			relative, err := filepath.Rel(root(t), path)
			if err != nil {
				return err
			}
			for _, match := range metric.FindAllStringSubmatch(read(t, relative), -1) {
				found++
				if !strings.Contains(text, "`"+match[1]) {
					t.Errorf("docs/metrics.md does not mention %s of %s", match[1], relative)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no metric was found")
	}
}

// The page of each kind has every field of its spec and status.
func TestFieldsAreDocumented(t *testing.T) {
	field := regexp.MustCompile("`json:\"([a-zA-Z0-9]+)")
	skip := map[string]bool{"metadata": true, "spec": true, "status": true, "items": true}
	for kind, page := range map[string]string{
		"postback": "postbacks.md", "postbacksecret": "postbacksecrets.md", "postbackdelivery": "postbackdeliveries.md",
		"postbackstatistics": "postbacks.md",
	} {
		t.Run(kind, func(t *testing.T) {
			text := read(t, "docs", page)
			for _, match := range field.FindAllStringSubmatch(read(t, "api", "v1alpha1", kind+"_types.go"), -1) {
				if name := match[1]; !skip[name] && !regexp.MustCompile(`\b`+name+`\b`).MatchString(text) {
					t.Errorf("docs/%s does not mention the field %s", page, name)
				}
			}
		})
	}
}
