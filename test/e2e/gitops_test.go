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

package e2e

import (
	"fmt"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TestRotationBesideGit: a tool that repeatedly applies the manifest from Git neither undoes nor repeats a rotation
// or a test event that a person requested beside it.
func TestRotationBesideGit(t *testing.T) {
	for name, apply := range map[string][]string{
		"three-way merge":                        {"apply", "-f", "-"},
		"server-side apply":                      {"apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-"},
		"server-side apply that takes conflicts": {"apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTenant(t)
			manifest := fmt.Sprintf(`{apiVersion: postback.dev/v1alpha1, kind: Postback, metadata: {name: crm, labels: {team: crm}, annotations: {contact: crm@example.com}},
spec: {url: %q, triggers: [lead.created]}}`, n.endpoint.URL(hooks))
			n.kubectlWith(manifest, apply...)
			n.waitReady("crm")
			n.kubectl("annotate", "postback", "crm", v1alpha1.RotateSecretAnnotation+"=by-hand")
			n.kubectl("wait", "--for=jsonpath={.status.version}=2", "--timeout="+patience.String(), "postbacksecret/crm")
			n.waitReady("crm")
			before := n.getPostback("crm")

			n.kubectlWith(manifest, apply...)
			if after := n.getPostback("crm"); after.Generation != before.Generation {
				t.Errorf("applying the same manifest again changed the spec: generation %d, then %d", before.Generation, after.Generation)
			} else if after.Annotations[v1alpha1.RotateSecretAnnotation] != "by-hand" || after.Annotations["contact"] == "" {
				t.Errorf("after it the annotations are %v", after.Annotations)
			}
			// A change from Git leads to another reconcile.
			n.kubectlWith(fmt.Sprintf(`{apiVersion: postback.dev/v1alpha1, kind: Postback, metadata: {name: crm, labels: {team: crm}},
spec: {url: %q, triggers: [lead.created, sale.created]}}`, n.endpoint.URL(hooks)), apply...)
			n.waitReady("crm")
			after := n.getPostback("crm")
			if after.Annotations[v1alpha1.RotateSecretAnnotation] != "by-hand" || after.Annotations["contact"] != "" || len(after.Spec.Triggers) != 2 {
				t.Errorf("after a change from Git the annotations are %v, the triggers %v", after.Annotations, after.Spec.Triggers)
			}
			secret := &v1alpha1.PostbackSecret{}
			if err := api.Get(t.Context(), client.ObjectKey{Namespace: n.namespace, Name: "crm"}, secret); err != nil {
				t.Fatal(err)
			}
			if secret.Status.Version != 2 {
				t.Errorf("the key's version is %d, want 2", secret.Status.Version)
			}
		})
	}
}
