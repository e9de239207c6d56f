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
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest matches a link to a test file or a package, followed by the names of tests in it.
var (
	namedTest = regexp.MustCompile("\\]\\(([^)\\s]+)\\)((?:,? ?`(?:Test|Fuzz)[A-Za-z0-9]+`)+)")
	testName  = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(`)
)

// TestNamedTestsExist: each test that a page names exists in the linked file or package.
func TestNamedTestsExist(t *testing.T) {
	everywhere := testsBelow(t, root(t))
	for _, page := range pages(t) {
		text := fencePattern.ReplaceAllString(read(t, page), "")
		named := namedTest.FindAllStringSubmatch(text, -1)
		for _, match := range named {
			target := filepath.Join(root(t), filepath.Dir(page), match[1])
			there := testsBelow(t, target)
			for _, name := range testName.FindAllStringSubmatch(match[2], -1) {
				if !there[name[1]] {
					t.Errorf("%s: %s has no test %s", page, match[1], name[1])
				}
			}
		}
		if len(named) == 0 {
			continue // Elsewhere such a name is not that of a test.
		}
		for _, name := range testName.FindAllStringSubmatch(text, -1) {
			if !everywhere[name[1]] {
				t.Errorf("%s: there is no test %s", page, name[1])
			}
		}
	}
}

// testsBelow returns the names of the tests in a file, or in the files of a folder.
func testsBelow(t *testing.T, path string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "." && entry.Name() != "..":
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range testFunc.FindAllStringSubmatch(string(content), -1) {
			found[match[1]] = true
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return found
}

// TestDecisionsHaveAStatusAndADate: each decision tells whether it is in force, and since when.
func TestDecisionsHaveAStatusAndADate(t *testing.T) {
	status := regexp.MustCompile(`\A# \d{4}: [^\n]+\n\nStatus: (accepted|proposed|superseded by \[\d{4}\]\([^)]+\)), \d{4}-\d{2}-\d{2}\n`)
	records, err := filepath.Glob(filepath.Join(root(t), "docs", "decisions", "0*.md"))
	if err != nil || len(records) == 0 {
		t.Fatalf("%d decision records: %v", len(records), err)
	}
	for _, record := range records {
		if text := read(t, "docs", "decisions", filepath.Base(record)); !status.MatchString(text) {
			t.Errorf("%s does not begin with its title and a line such as \"Status: accepted, 2026-11-28\"", filepath.Base(record))
		}
	}
}
