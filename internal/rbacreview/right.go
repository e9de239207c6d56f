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

package rbacreview

import (
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Right is a right that RBAC grants. Resource may have a subresource after a slash. Namespace "" means all
// namespaces, and Name "" all objects.
type Right struct {
	Verb, Group, Resource, Namespace, Name string
}

// String describes the right, such as "patch postbacks.postback.dev in namespace acme".
func (r Right) String() string {
	what := r.Resource
	if r.Group != "" {
		what += "." + r.Group
	}
	if r.Name != "" {
		what += fmt.Sprintf(" %q", r.Name)
	}
	if r.Namespace == "" {
		return r.Verb + " " + what + " in all namespaces"
	}
	return r.Verb + " " + what + " in namespace " + r.Namespace
}

// Key returns the right as a key for a Cache.
func (r Right) Key() string {
	return fmt.Sprintf("%q", []string{r.Verb, r.Group, r.Resource, r.Namespace, r.Name})
}

// Attributes returns the right in the form of an access review.
func (r Right) Attributes() *authorizationv1.ResourceAttributes {
	resource, subresource, _ := strings.Cut(r.Resource, "/")
	a := &authorizationv1.ResourceAttributes{
		Verb: r.Verb, Group: r.Group, Resource: resource, Subresource: subresource, Namespace: r.Namespace, Name: r.Name,
	}
	if r.Group == v1alpha1.GroupVersion.Group {
		a.Version = v1alpha1.GroupVersion.Version
	}
	return a
}
