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
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	dispatcherUser = "system:serviceaccount:postback-system:postback-dispatcher"
	managerUser    = "system:serviceaccount:postback-system:postback-manager"
)

// TestAccess asks the API server which requests the shipped roles allow.
func TestAccess(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	sender := "system:serviceaccount:" + n.namespace + ":" + operator.Sender
	tests := []struct {
		user      string
		args      []string
		namespace string
		want      bool
	}{
		{dispatcherUser, []string{"get", "secrets"}, n.namespace, false},
		{dispatcherUser, []string{"get", "secrets/crm"}, n.namespace, false},
		{dispatcherUser, []string{"list", "secrets"}, n.namespace, false},
		{dispatcherUser, []string{"watch", "secrets", "--all-namespaces"}, "", false},
		{dispatcherUser, []string{"list", "secrets", "--all-namespaces"}, "", false},
		{dispatcherUser, []string{"create", "secrets"}, operator.Namespace, false},
		{dispatcherUser, []string{"update", "secrets"}, operator.Namespace, false},
		{dispatcherUser, []string{"get", "postbacks.postback.dev"}, n.namespace, false},
		{dispatcherUser, []string{"list", "postbacks.postback.dev", "--all-namespaces"}, "", false},
		{dispatcherUser, []string{"list", "postbacksecrets.postback.dev", "--all-namespaces"}, "", false},
		{dispatcherUser, []string{"patch", "postbacks.postback.dev"}, n.namespace, false},
		{dispatcherUser, []string{"update", "postbackdeliveries.postback.dev"}, n.namespace, false},
		{dispatcherUser, []string{"create", "pods"}, operator.Namespace, false},
		{dispatcherUser, []string{"create", "serviceaccounts/token"}, operator.Namespace, false},
		{dispatcherUser, []string{"create", "postbackdeliveries.postback.dev"}, n.namespace, true},
		{dispatcherUser, []string{"delete", "postbackdeliveries.postback.dev"}, n.namespace, true},
		{dispatcherUser, []string{"patch", "postbacks.postback.dev", "--subresource=status"}, n.namespace, true},
		{dispatcherUser, []string{"list", "secrets"}, operator.Namespace, true},
		{dispatcherUser, []string{"create", "tokenreviews.authentication.k8s.io"}, "", true},
		{dispatcherUser, []string{"create", "subjectaccessreviews.authorization.k8s.io"}, "", true},
		{sender, []string{"create", "postbackdeliveries.postback.dev"}, n.namespace, false},
		{sender, []string{"get", "postbacks.postback.dev"}, n.namespace, false},
		{managerUser, []string{"delete", "namespaces"}, "", false},
		{managerUser, []string{"create", "pods"}, n.namespace, false},
		{managerUser, []string{"create", "serviceaccounts/token"}, operator.Namespace, false},
		{managerUser, []string{"create", "rolebindings"}, n.namespace, false},
		{managerUser, []string{"*", "*", "--all-namespaces"}, "", false},
		{managerUser, []string{"get", "secrets"}, n.namespace, true},
	}
	for _, test := range tests {
		args := append([]string{"auth", "can-i", "--as=" + test.user}, test.args...)
		if test.namespace != "" {
			args = append(args, "-n", test.namespace)
		}
		t.Run(strings.Join(args[2:], " "), func(t *testing.T) {
			// The exit status must agree with the output.
			answer, _, err := cp.Kubectl(t.Context(), "", args...)
			if got := strings.TrimSpace(answer); got != map[bool]string{true: "yes", false: "no"}[test.want] || (err == nil) != test.want {
				t.Errorf("the answer is %q (%v), want %t", got, err, test.want)
			}
		})
	}
}

// TestDispatcherCannotReadTenants tries to read tenants' objects with the token of a dispatcher.
func TestDispatcherCannotReadTenants(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	config, err := cp.ServiceAccountConfig(t.Context(), operator.Namespace, "postback-dispatcher")
	if err != nil {
		t.Fatal(err)
	}
	asDispatcher, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	secrets := asDispatcher.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"})
	postbacks := asDispatcher.Resource(schema.GroupVersionResource{Group: "postback.dev", Version: "v1alpha1", Resource: "postbacks"})
	for name, read := range map[string]func(context.Context) error{
		"the signing key": func(ctx context.Context) error {
			_, err := secrets.Namespace(n.namespace).Get(ctx, "crm", metav1.GetOptions{})
			return err
		},
		"the tenant's Secrets": func(ctx context.Context) error {
			_, err := secrets.Namespace(n.namespace).List(ctx, metav1.ListOptions{})
			return err
		},
		"all Secrets": func(ctx context.Context) error {
			_, err := secrets.List(ctx, metav1.ListOptions{})
			return err
		},
		"the Postback": func(ctx context.Context) error {
			_, err := postbacks.Namespace(n.namespace).Get(ctx, "crm", metav1.GetOptions{})
			return err
		},
		"all Postbacks": func(ctx context.Context) error {
			_, err := postbacks.List(ctx, metav1.ListOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := read(t.Context()); !apierrors.IsForbidden(err) {
				t.Errorf("reading %s ends with %v, not with 403", name, err)
			}
		})
	}
	if _, err := secrets.Namespace(operator.Namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("reading the routes ends with %v", err)
	}
}
