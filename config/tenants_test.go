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

package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

// The authors in the namespace of a partner. The names with a prefix are those of the portal's ServiceAccounts.
const (
	portalEditor    = "postback-portal-editor"
	portalViewer    = "postback-portal-viewer"
	portalKeyReader = "postback-portal-key-reader"
	// kubectlEditor has the role postback-editor alone.
	kubectlEditor = "kubectl-editor"
	// secretsLister has the role postback-editor, and may list the Secrets of the namespace, as with the role edit.
	secretsLister = "secrets-lister"
	// platformEditor has the role postback-editor, and may bypass the rules.
	platformEditor = "platform-editor"
)

// tenant is the namespace of a partner with one client for each author.
type tenant struct {
	t         *testing.T
	namespace string
	admin     client.Client
	authors   map[string]client.Client
	names     int
}

// newTenant creates the namespace of a partner, with rules. Their names lack the prefix of the namespace.
func newTenant(t *testing.T, namespace string, rules map[string]string) *tenant {
	t.Helper()
	kubectl(t, "", "create", "namespace", namespace)
	installPortal(t)
	admin, err := cp.Client()
	if err != nil {
		t.Fatal(err)
	}
	n := &tenant{t: t, namespace: namespace, admin: admin, authors: map[string]client.Client{}}
	n.rules(rules)
	kubectl(t, "", "apply", "-n", namespace, "-f", "samples/portal_partner.yaml")
	for _, name := range []string{kubectlEditor, secretsLister, platformEditor} {
		n.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		n.bind(name, "ClusterRole", "postback-editor")
	}
	n.create(&rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "lists-secrets"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}}},
	})
	n.bind(secretsLister, "Role", "lists-secrets")
	n.bind(platformEditor, "ClusterRole", "postback-rules-bypass")
	for _, name := range []string{portalEditor, portalViewer, portalKeyReader, kubectlEditor, secretsLister, platformEditor} {
		config, err := cp.ServiceAccountConfig(t.Context(), namespace, name)
		if err != nil {
			t.Fatal(err)
		}
		if n.authors[name], err = controlplane.NewClient(config); err != nil {
			t.Fatal(err)
		}
	}
	// The API server applies a new policy, a new rule and a new binding a moment later.
	n.refusedSoon(platformEditor, `{"tls": {"caSecretRef": {"name": "foreign", "key": "k"}}}`, "spec.tls.caSecretRef:")
	n.acceptedSoon(platformEditor, `{"tls": {"caSecretRef": {"name": "applied", "key": "k"}}}`)
	return n
}

func (n *tenant) create(o client.Object) {
	n.t.Helper()
	if err := n.admin.Create(n.t.Context(), o); err != nil {
		n.t.Fatal(err)
	}
}

func (n *tenant) bind(serviceAccount, kind, role string) {
	n.t.Helper()
	n.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: serviceAccount + "-" + role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: n.namespace, Name: serviceAccount}},
	})
}

// rules sets rules of the platform for the namespace.
func (n *tenant) rules(rules map[string]string) {
	n.t.Helper()
	data := map[string]string{n.namespace + ".secrets": "applied"}
	for rule, value := range rules {
		if rule == "secrets" {
			value += " applied"
		}
		data[n.namespace+"."+rule] = value
	}
	n.patch(n.admin, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: installNamespace, Name: "postback-rules"}}, map[string]any{"data": data})
}

func (n *tenant) patch(c client.Client, o client.Object, content any) {
	n.t.Helper()
	if err := n.try(c, o, content); err != nil {
		n.t.Fatal(err)
	}
}

// try applies a merge patch. Its content is JSON, or try encodes it.
func (n *tenant) try(c client.Client, o client.Object, content any) error {
	body, ok := content.(string)
	if !ok {
		marshalled, err := json.Marshal(content)
		if err != nil {
			n.t.Fatal(err)
		}
		body = string(marshalled)
	}
	return c.Patch(n.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(body)))
}

// postback returns a new Postback whose spec has the JSON fields beside those that are required.
func (n *tenant) postback(fields string) *unstructured.Unstructured {
	n.t.Helper()
	n.names++
	spec := map[string]any{"url": "https://crm.example.com/hooks", "triggers": []any{"*"}}
	more := map[string]any{}
	if err := json.Unmarshal([]byte(fields), &more); err != nil {
		n.t.Fatal(fields, err)
	}
	maps.Copy(spec, more)
	return n.object("Postback", fmt.Sprint("crm-", n.names), map[string]any{"spec": spec})
}

func (n *tenant) object(kind, name string, content map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: maps.Clone(content)}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(n.namespace)
	o.SetName(name)
	return o
}

func (n *tenant) refusedSoon(author, fields, message string) {
	n.t.Helper()
	NewWithT(n.t).Eventually(func() error {
		return n.authors[author].Create(n.t.Context(), n.postback(fields), client.DryRunAll)
	}).WithTimeout(time.Minute).WithPolling(100 * time.Millisecond).Should(MatchError(ContainSubstring(message)))
}

func (n *tenant) acceptedSoon(author, fields string) {
	n.t.Helper()
	NewWithT(n.t).Eventually(func() error {
		return n.authors[author].Create(n.t.Context(), n.postback(fields), client.DryRunAll)
	}).WithTimeout(time.Minute).WithPolling(100 * time.Millisecond).Should(Succeed())
}

// expect checks that an error contains a message, or that there is none if the message is empty.
func expect(t *testing.T, err error, message string) {
	t.Helper()
	if (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) {
		t.Errorf("the answer is %v, want %q", err, message)
	}
}

// TestRulesThatAreMissingRefuse: without the ConfigMap, the API server refuses every Postback.
func TestRulesThatAreMissingRefuse(t *testing.T) {
	n := newTenant(t, "ruleless", nil)
	kubectl(t, "", "delete", "configmap", "postback-rules", "-n", installNamespace)
	n.refusedSoon(portalEditor, `{}`, "failed to configure binding: no params found")
	kubectl(t, "", "apply", "-f", "portal/policies/rules.yaml")
	n.acceptedSoon(portalEditor, `{}`)
}
