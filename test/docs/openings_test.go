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

// TestCommentsOpenWithANoun checks the first words of comments in all Go files: Vale does not split comments into
// sentences.
func TestCommentsOpenWithANoun(t *testing.T) {
	opening := regexp.MustCompile(`(?m)^\s*// (What|Who|Whoever|Whatever|That|Of) [^?\n]*$`)
	// The doc comment of a function called Of begins with this name.
	function := regexp.MustCompile(`^\s*// Of (returns|runs|reads|is) `)
	for folder := range packages(t) {
		files, err := filepath.Glob(filepath.Join(root(t), folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range opening.FindAllString(withoutContinuation(string(source)), -1) {
				if !function.MatchString(line) {
					t.Errorf("%s: open the sentence with a noun of the glossary: %s", file, strings.TrimSpace(line))
				}
			}
		}
	}
}

// withoutContinuation keeps only the first line of each comment, because a later line may begin within a sentence.
func withoutContinuation(source string) string {
	var kept []string
	comment := false
	for line := range strings.Lines(source) {
		begun := comment
		comment = strings.HasPrefix(strings.TrimSpace(line), "//")
		if !begun || !comment {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
