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

// Package docs tests the README and the documentation. A real API server accepts the manifests, links have targets,
// shown code exists, and everything that must be documented is.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{root(t)}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pages returns the paths of the Markdown files, relative to the module's root.
func pages(t *testing.T) []string {
	t.Helper()
	paths := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			relative, err := filepath.Rel(root(t), path)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, relative)
		}
	}
	return paths
}

// block is a fenced code block of a page.
type block struct {
	language, text string
	// from is the file, relative to docs, that the comment before the block names.
	from string
}

var (
	fencePattern = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	fromPattern  = regexp.MustCompile(`<!-- from (\S+) -->\n$`)
)

func blocks(t *testing.T, page string) []block {
	t.Helper()
	content := read(t, page)
	var found []block
	for _, match := range fencePattern.FindAllStringSubmatchIndex(content, -1) {
		b := block{language: content[match[2]:match[3]], text: content[match[4]:match[5]]}
		if from := fromPattern.FindStringSubmatch(content[:match[0]]); from != nil {
			b.from = from[1]
		}
		found = append(found, b)
	}
	return found
}

func TestManifestsAreAccepted(t *testing.T) {
	makeNamespace(t, "partner-acme")
	makeNamespace(t, "partner-globex")
	checked := 0
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if b.language != "yaml" || !strings.Contains(b.text, "apiVersion: postback.dev/v1alpha1") {
				continue
			}
			checked++
			_, _, err := cp.Kubectl(t.Context(), served(t, b.text), "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, b.text)
			}
		}
	}
	if checked == 0 {
		t.Error("no manifest was found")
	}
}

func TestCodeIsFromFiles(t *testing.T) {
	checked := map[string]bool{}
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if b.from == "" {
				if slices.Contains([]string{"js", "python", "go", "ruby", "php", "java", "csharp", "rust"}, b.language) {
					t.Errorf("%s: a block of %s does not say which file it is from:\n%s", page, b.language, b.text)
				}
				continue
			}
			checked[b.language] = true
			if !strings.Contains(read(t, "docs", b.from), b.text) {
				t.Errorf("%s: this is not in %s:\n%s", page, b.from, b.text)
			}
		}
	}
	if len(checked) < 3 {
		t.Errorf("code was found in %d languages, want 3", len(checked))
	}
}
