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

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text := fencePattern.ReplaceAllString(read(t, page), "")
		for _, match := range linkPattern.FindAllStringSubmatch(text, -1) {
			link := match[1]
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(link, "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(filepath.Join(root(t), target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, link)
				continue
			}
			if anchor != "" && !anchors(t, target)[anchor] {
				t.Errorf("%s: %s has no heading %s", page, target, anchor)
			}
		}
	}
}

// anchors returns the anchors of a page's headings, as GitHub generates them.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, match := range headingPattern.FindAllStringSubmatch(fencePattern.ReplaceAllString(read(t, page), ""), -1) {
		heading := notInAnchor.ReplaceAllString(strings.ToLower(match[1]), "")
		found[strings.ReplaceAll(heading, " ", "-")] = true
	}
	return found
}

// TestReferencesAreDefined: each reference link has a definition at the end of the page, and each definition is used.
func TestReferencesAreDefined(t *testing.T) {
	use := regexp.MustCompile(`\]\[([^\]]+)\]`)
	definition := regexp.MustCompile(`(?m)^\[([^\]]+)\]: <?https://`)
	found := 0
	for _, page := range pages(t) {
		text := fencePattern.ReplaceAllString(read(t, page), "")
		used, defined := map[string]bool{}, map[string]bool{}
		for _, match := range definition.FindAllStringSubmatch(text, -1) {
			defined[match[1]] = true
		}
		for _, match := range use.FindAllStringSubmatch(text, -1) {
			found++
			used[match[1]] = true
			if !defined[match[1]] {
				t.Errorf("%s: [%s] is defined nowhere", page, match[1])
			}
		}
		for name := range defined {
			if !used[name] {
				t.Errorf("%s: [%s] is not used", page, name)
			}
		}
	}
	if found == 0 {
		t.Error("no page has a link by reference")
	}
}

func TestTargetsOfMakeExist(t *testing.T) {
	makefile := read(t, "Makefile")
	command := regexp.MustCompile("(?m)(?:^|`|\\$ |&& )make ([a-z-]+)")
	for _, page := range pages(t) {
		for _, match := range command.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(makefile, "\n"+match[1]+":") {
				t.Errorf("%s: make %s is not a target", page, match[1])
			}
		}
	}
}
