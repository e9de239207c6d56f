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

package action

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ManagedBy returns the tool that manages an object, such as "Argo CD", and the name of the Application,
// Kustomization or release there. Both are empty if no tool manages it. The tool reverts a change by hand when it
// applies the object again.
//
// ManagedBy recognises the marks of Argo CD (argocd.argoproj.io), Flux (kustomize and helm.toolkit.fluxcd.io) and
// Helm (the annotation meta.helm.sh/release-name).
func ManagedBy(object metav1.Object) (tool, name string) {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	application, _, _ := strings.Cut(annotations["argocd.argoproj.io/tracking-id"], ":")
	for _, mark := range []struct{ tool, name string }{
		{"Argo CD", cmp.Or(application, labels["argocd.argoproj.io/instance"], annotations["argocd.argoproj.io/instance"])},
		{"Flux", cmp.Or(labels["kustomize.toolkit.fluxcd.io/name"], labels["helm.toolkit.fluxcd.io/name"])},
		{"Helm", annotations["meta.helm.sh/release-name"]},
	} {
		if mark.name != "" {
			return mark.tool, mark.name
		}
	}
	return "", ""
}
