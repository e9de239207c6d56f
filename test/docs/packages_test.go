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
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEachPackageHasARow compares the table of docs/architecture.md with the folders of Go code.
func TestEachPackageHasARow(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "docs", "architecture.md"), "## Packages\n")
	table, _, _ = strings.Cut(table, "\n## ")
	named := map[string]bool{}
	for _, row := range strings.Split(table, "\n") {
		packages, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, name := range regexp.MustCompile("`([a-z][a-z0-9/-]*)`").FindAllStringSubmatch(packages, -1) {
			named[name[1]] = true
			if info, err := os.Stat(filepath.Join(root(t), name[1])); err != nil || !info.IsDir() {
				t.Errorf("docs/architecture.md names %s, which is no folder", name[1])
			}
		}
	}
	for name := range packages(t) {
		if !named[name] {
			t.Errorf("docs/architecture.md has no row for %s", name)
		}
	}
}

// packages returns the folders of Go code, of the main module and of those in hack, relative to the root. It omits
// bin and the folders that the go command ignores.
func packages(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root(t)), ".", func(path string, entry fs.DirEntry, err error) error {
		name := filepath.Base(path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (path == "bin" || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			found[filepath.Dir(path)] = true
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("found %d packages: %v", len(found), err)
	}
	return found
}
