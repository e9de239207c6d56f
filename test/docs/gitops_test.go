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
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// foreignKinds are kinds of other operators, which the control plane of tests does not serve.
var foreignKinds = []schema.GroupVersionKind{
	{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"},
	{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"},
	{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"},
	{Group: "external-secrets.io", Version: "v1", Kind: "ExternalSecret"},
	{Group: "bitnami.com", Version: "v1alpha1", Kind: "SealedSecret"},
}

// served returns the documents of a manifest except those of foreign kinds.
func served(t *testing.T, manifest string) string {
	t.Helper()
	var kept []string
	for _, document := range strings.Split(manifest, "\n---\n") {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if !slices.Contains(foreignKinds, object.GroupVersionKind()) {
			kept = append(kept, document)
		}
	}
	return strings.Join(kept, "\n---\n")
}

func makeNamespace(t *testing.T, name string) {
	t.Helper()
	manifest := "{apiVersion: v1, kind: Namespace, metadata: {name: " + name + "}}"
	if _, _, err := cp.Kubectl(t.Context(), manifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

func TestGitOpsExamples(t *testing.T) {
	makeNamespace(t, "partner-acme")
	folder := filepath.Join(root(t), "docs", "examples", "gitops")
	checked := 0
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		ours := served(t, string(content))
		if ours == "" {
			return nil
		}
		checked++
		_, _, err = cp.Kubectl(t.Context(), ours, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Error("no example was found")
	}
	_, _, err = cp.Kubectl(t.Context(), "", "apply", "--dry-run=server", "--validate=strict", "-k", filepath.Join(folder, "partner-acme"))
	if err != nil {
		t.Error(err)
	}
}

// applies are the two ways in which GitOps tools apply manifests.
var applies = []struct {
	name string
	args []string
}{
	{"three-way merge", []string{"apply", "-f", "-"}},
	{"server-side apply", []string{"apply", "--server-side", "--field-manager=gitops", "--force-conflicts", "-f", "-"}},
}

// inGit returns the manifest of a Postback as it is in Git. annotations are in YAML, or "".
func inGit(namespace, displayName, annotations string) string {
	return `apiVersion: postback.dev/v1alpha1
kind: Postback
metadata:
  name: crm
  namespace: ` + namespace + `
  annotations: {` + annotations + `}
spec:
  displayName: ` + displayName + `
  url: https://crm.example.com/hooks
  triggers: ["*"]
`
}

// look returns the displayName, the state and the rotate-secret annotation of a Postback.
func look(t *testing.T, namespace string) string {
	t.Helper()
	const fields = `jsonpath={.spec.displayName} {.spec.state} {.metadata.annotations.postback\.dev/rotate-secret}`
	found, _, err := cp.Kubectl(t.Context(), "", "get", "postback", "crm", "-n", namespace, "-o", fields)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func kubectl(t *testing.T, stdin string, args ...string) {
	t.Helper()
	if _, _, err := cp.Kubectl(t.Context(), stdin, args...); err != nil {
		t.Fatal(err)
	}
}

func TestRequestsBesideGitAreKept(t *testing.T) {
	for i, apply := range applies {
		t.Run(apply.name, func(t *testing.T) {
			namespace := []string{"merged-beside", "applied-beside"}[i]
			makeNamespace(t, namespace)
			kubectl(t, inGit(namespace, "first", ""), apply.args...)
			kubectl(t, "", "annotate", "postback", "crm", "-n", namespace, "postback.dev/rotate-secret=incident-12")
			kubectl(t, "", "patch", "postback", "crm", "-n", namespace, "--type=merge", "-p", `{"spec":{"state":"Paused"}}`)
			kubectl(t, inGit(namespace, "second", ""), apply.args...)
			if got, want := look(t, namespace), "second Paused incident-12"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestRequestInGitIsPutBack(t *testing.T) {
	const request = "postback.dev/rotate-secret: first-half"
	for i, apply := range applies {
		t.Run(apply.name, func(t *testing.T) {
			namespace := []string{"merged-within", "applied-within"}[i]
			makeNamespace(t, namespace)
			kubectl(t, inGit(namespace, "Acme", request), apply.args...)
			kubectl(t, "", "annotate", "--overwrite", "postback", "crm", "-n", namespace, "postback.dev/rotate-secret=incident-12")
			kubectl(t, inGit(namespace, "Acme", request), apply.args...)
			if got, want := look(t, namespace), "Acme Enabled first-half"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	kubectl(t, "", "annotate", "--overwrite", "postback", "crm", "-n", "applied-within", "postback.dev/rotate-secret=incident-13")
	unforced := []string{"apply", "--server-side", "--field-manager=gitops", "-f", "-"}
	_, _, err := cp.Kubectl(t.Context(), inGit("applied-within", "Acme", request), unforced...)
	if err == nil || !strings.Contains(err.Error(), "conflict") {
		t.Errorf("got %v, want a conflict", err)
	}
}
