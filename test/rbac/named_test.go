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

package rbac

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// These are the namespaces of config/watch-namespaces, and one that is not among them.
const (
	watchedNamespace = "partner-acme"
	otherWatched     = "partner-globex"
	unwatched        = "partner-initech"
)

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, _, err := op.ControlPlane.Kubectl(context.WithoutCancel(t.Context()), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout
}

// nameNamespaces restricts the installation to the namespaces of config/watch-namespaces, as docs/operations.md says,
// until the test ends.
func nameNamespaces(t *testing.T) {
	t.Helper()
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{watchedNamespace, otherWatched, unwatched} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := api.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { kubectl(t, "", "apply", "-k", filepath.Join(root, "config", "default")) })
	kubectl(t, "", "apply", "-k", filepath.Join(root, "config", "watch-namespaces"))
	kubectl(t, "", "delete", "--ignore-not-found", "clusterrole,clusterrolebinding", "postback-manager")
}

// can asks the API server, by kubectl, whether a program has a right.
func can(t *testing.T, program, namespace, verb, resource string) bool {
	t.Helper()
	// The exit status agrees with the output.
	answer, _, _ := op.ControlPlane.Kubectl(t.Context(), "", "auth", "can-i", verb, resource,
		"--as=system:serviceaccount:"+operator.Namespace+":postback-"+program, "-n", namespace)
	return strings.TrimSpace(answer) == "yes"
}

// TestNamedNamespaces: with only the Roles of named namespaces everything works there and nothing is refused. The
// operator reads, changes and accepts nothing of another namespace.
func TestNamedNamespaces(t *testing.T) {
	nameNamespaces(t)
	for _, may := range []struct {
		program, verb, resource string
	}{
		{"manager", "watch", "postbacks.postback.dev"},
		{"manager", "get", "secrets"},
		{"manager", "update", "secrets"},
		{"manager", "create", "postbackdeliveries.postback.dev"},
		{"dispatcher", "list", "postbackdeliveries.postback.dev"},
		{"dispatcher", "delete", "postbackdeliveries.postback.dev"},
		{"dispatcher", "create", "events.events.k8s.io"},
	} {
		t.Run(may.program+" may "+may.verb+" "+may.resource, func(t *testing.T) {
			for namespace, want := range map[string]bool{watchedNamespace: true, otherWatched: true, unwatched: false} {
				if got := can(t, may.program, namespace, may.verb, may.resource); got != want {
					t.Errorf("%s may %s %s in %s: %t", may.program, may.verb, may.resource, namespace, got)
				}
			}
		})
	}
	elsewhere := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: unwatched, Name: "crm"},
		Spec:       v1alpha1.PostbackSpec{URL: "https://example.com/", Triggers: []v1alpha1.Trigger{"*"}},
	}
	if err := api.Create(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for _, namespace := range []string{watchedNamespace, otherWatched} {
		t.Run(namespace, func(t *testing.T) {
			r := begin(t, namespace)
			if err := r.use(ctx); err != nil {
				t.Errorf("%v\n%s\n%s", err, r.manager.LogTail(logLines), r.dispatcher.LogTail(logLines))
			}
			checkRefusal(ctx, t, r)
			if namespace == watchedNamespace {
				if err := r.retry(ctx); err != nil {
					t.Errorf("retry: %v\n%s", err, r.dispatcher.LogTail(logLines))
				}
			}
			r.end()
			if log := r.logs(); strings.Contains(log, "forbidden") || strings.Contains(log, "unknown namespace") {
				t.Errorf("something was refused:\n%s", linesWith(log, "forbidden")+linesWith(log, "unknown namespace"))
			}
		})
	}
	untouched := &v1alpha1.Postback{}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(elsewhere), untouched); err != nil {
		t.Fatal(err)
	}
	if untouched.ResourceVersion != elsewhere.ResourceVersion {
		t.Errorf("the Postback of another namespace was changed: %+v %+v", untouched.Finalizers, untouched.Status)
	}
	secrets := &corev1.SecretList{}
	if err := api.List(t.Context(), secrets, client.InNamespace(unwatched)); err != nil || len(secrets.Items) > 0 {
		t.Errorf("%d Secrets were made elsewhere, %v", len(secrets.Items), err)
	}
}

// TestNamespaceThatLosesItsRoles: an administrator of a namespace may delete its RoleBindings, or the namespace. The
// other namespaces are not affected, and a restored one is watched again.
func TestNamespaceThatLosesItsRoles(t *testing.T) {
	nameNamespaces(t)
	kubectl(t, "", "delete", "-n", otherWatched, "rolebinding", "postback-manager-watched", "postback-dispatcher-watched")
	for _, program := range []string{"manager", "dispatcher"} {
		gomega.NewWithT(t).Eventually(func() bool { return can(t, program, otherWatched, "list", "postbackdeliveries.postback.dev") }).
			WithTimeout(patience).Should(gomega.BeFalse())
	}
	r := begin(t, watchedNamespace)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.use(ctx); err != nil {
		t.Errorf("%v\n%s\n%s", err, r.manager.LogTail(logLines), r.dispatcher.LogTail(logLines))
	}
	nameNamespaces(t)
	for _, p := range []*operator.Process{r.manager, r.dispatcher} {
		if log := p.Log(); !strings.Contains(log, `"Not watching a namespace","namespace":"partner-globex","lacking":"list `) {
			t.Errorf("%s does not say what it lacks:\n%s", p.Name, p.LogTail(logLines))
		}
		if code, err := p.WaitExit(ctx); code != 1 || err != nil || !strings.Contains(p.Log(), "namespace partner-globex may be watched now: start again") {
			t.Errorf("%s ends with %d, %v:\n%s", p.Name, code, err, p.LogTail(logLines))
		}
	}
	// The kubelet restarts the program, too.
	again := begin(t, otherWatched)
	if err := again.use(ctx); err != nil {
		t.Error(err)
	}
	again.end()
}

// retry makes the first attempt of an event fail, and waits for the scheduled retry.
func (r *run) retry(ctx context.Context) error {
	seen := len(r.endpoint.Requests(hooks))
	return errors.Join(r.declare(ctx), r.post(ctx, "evt_retried", 1), r.until(ctx, func(ctx context.Context) (bool, error) {
		all, err := r.deliveries(ctx)
		return len(all) == 1 && all[0].Status.Phase == v1alpha1.DeliveryDelivered && all[0].Status.AttemptCount == 2 &&
			len(r.endpoint.Requests(hooks)) == seen+2, err
	}))
}

// checkRefusal posts an event for the unwatched namespace, with a producer's right, and expects a refusal.
func checkRefusal(ctx context.Context, t *testing.T, r *run) {
	t.Helper()
	token, err := op.SenderToken(ctx, unwatched)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.dispatcher.IngestURL()+"/v1/namespaces/"+unwatched+"/events",
		strings.NewReader(`{"event": "lead.created", "data": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var problem struct{ Type string }
	if err != nil || json.Unmarshal(body, &problem) != nil || response.StatusCode != http.StatusNotFound || problem.Type != "urn:postback:problem:namespace-not-watched" {
		t.Errorf("posting elsewhere is answered %d %s, %v", response.StatusCode, body, err)
	}
}

// TestRolesOfNamedNamespacesAreThose: the Role of a watched namespace and the rest of the ClusterRole together have
// the rules of the full ClusterRole. TestEveryRuleIsNeeded shows that these are needed.
func TestRolesOfNamedNamespacesAreThose(t *testing.T) {
	programs := []string{"manager", "dispatcher"}
	want := map[string][]string{}
	for _, program := range programs {
		all := &rbacv1.ClusterRole{}
		if err := api.Get(t.Context(), client.ObjectKey{Name: "postback-" + program}, all); err != nil {
			t.Fatal(err)
		}
		want[program] = spelled(all.Rules)
	}
	nameNamespaces(t)
	for _, program := range programs {
		watched, left := &rbacv1.Role{}, &rbacv1.ClusterRole{}
		if err := api.Get(t.Context(), client.ObjectKey{Namespace: watchedNamespace, Name: "postback-" + program + "-watched"}, watched); err != nil {
			t.Fatal(err)
		}
		if err := api.Get(t.Context(), client.ObjectKey{Name: "postback-" + program}, left); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		if got := spelled(append(watched.Rules, left.Rules...)); !slices.Equal(got, want[program]) {
			t.Errorf("%s: got %q\nwant %q", program, got, want[program])
		}
		for _, rule := range left.Rules {
			if rule.APIGroups[0] == v1alpha1.GroupVersion.Group || slices.Contains(rule.Resources, "secrets") {
				t.Errorf("%s, in every namespace: %v", program, rule)
			}
		}
	}
}

// spelled returns each verb on each resource of rules, sorted.
func spelled(rules []rbacv1.PolicyRule) (all []string) {
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				all = append(all, strings.Join([]string{rule.APIGroups[0], resource, verb}, " "))
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestInstallationNeedsItsSecrets: the rules that exist only in an installation for named namespaces are needed, too.
func TestInstallationNeedsItsSecrets(t *testing.T) {
	nameNamespaces(t)
	object := &rbacv1.Role{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: "postback-manager"}, object); err != nil {
		t.Fatal(err)
	}
	of := &role{program: "manager", object: object, namespace: watchedNamespace}
	checked := 0
	for _, l := range losses(of) {
		if slices.Contains(l.lost.Resources, "secrets") {
			checked++
			t.Run(l.String(), func(t *testing.T) { checkLoss(t, l) })
		}
	}
	if checked == 0 {
		t.Errorf("%s says nothing of Secrets", of)
	}
}
