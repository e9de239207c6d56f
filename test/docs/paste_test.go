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
	"regexp"
	"strings"
	"testing"
)

var trailingComment = regexp.MustCompile(`^\s*[^#\s].*\s#\s`)

// TestLinesToPasteCarryNoComment checks the shell blocks: an interactive zsh passes a trailing comment to the command
// as arguments.
func TestLinesToPasteCarryNoComment(t *testing.T) {
	for _, page := range pages(t) {
		inShell := false
		number := 0
		for line := range strings.Lines(read(t, page)) {
			number++
			if language, fence := strings.CutPrefix(strings.TrimSpace(line), "```"); fence {
				inShell = !inShell && (language == "sh" || language == "bash" || language == "zsh")
				continue
			}
			if inShell && trailingComment.MatchString(line) {
				t.Errorf("%s:%d: %s", page, number, strings.TrimSpace(line))
			}
		}
	}
}
