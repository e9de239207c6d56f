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

// Package rbac shows that the programs' roles grant only needed rights. It removes each rule in turn, and each time
// the program is refused something in a run that otherwise succeeds.
package rbac

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// patience bounds a run without a loss, refusal a run with one.
	patience = time.Minute
	refusal  = 30 * time.Second
	polling  = 50 * time.Millisecond
	logLines = 40
)

var (
	verbs = flag.Bool("verbs", false, "take each verb on each resource away, not each rule")
	op    *operator.Operator
	api   client.Client
)

const caOfCertificates = "the CA of client certificates, which only the JetStream intake reads"

// unseen has rights that no run of these tests uses, and why they are needed.
var unseen = map[string]string{
	"ClusterRole/postback-manager events.k8s.io events patch":                "a second event that is the same becomes a series",
	"Role/postback-manager  configmaps get":                                  "everybody may read that ConfigMap by the role postback-ingest-ca, which an administrator may take away",
	"ClusterRole/postback-dispatcher postback.dev postbackstatistics update": "the second write comes a minute after the first",
	"ClusterRole/postback-dispatcher events.k8s.io events patch":             "a second event that is the same becomes a series: an endpoint that comes and goes",
	"ClusterRole/postback-dispatcher  configmaps list,watch":                 caOfCertificates,
	"ClusterRole/postback-dispatcher  configmaps list":                       caOfCertificates,
	"ClusterRole/postback-dispatcher  configmaps watch":                      caOfCertificates,
}

// granted has rights that another role grants as well, and why they are needed. Their removal has no effect.
var granted = map[string]string{
	"Role/postback-manager  secrets delete": "the ClusterRole is not there in an installation for named namespaces",
}

func TestMain(m *testing.M) {
	os.Exit(operator.RunTests(m, func(_ context.Context, installed *operator.Operator) (err error) {
		op = installed
		api, err = op.ControlPlane.Client()
		return err
	}))
}

// role is a ClusterRole or a Role of one of the programs.
type role struct {
	program string
	object  client.Object
	// namespace is the namespace of the run, or "" for a new one.
	namespace string
}

func (r *role) rules() *[]rbacv1.PolicyRule {
	switch o := r.object.(type) {
	case *rbacv1.ClusterRole:
		return &o.Rules
	case *rbacv1.Role:
		return &o.Rules
	}
	return nil
}

func (r *role) String() string {
	return strings.TrimPrefix(fmt.Sprintf("%T", r.object), "*v1.") + "/" + r.object.GetName()
}

// loss is a removed right: a rule, or one verb on one resource of it.
type loss struct {
	role *role
	// rules are the remaining rules, lost is the removed one.
	rules []rbacv1.PolicyRule
	lost  rbacv1.PolicyRule
}

func (l *loss) String() string {
	return fmt.Sprintf("%s %s %s %s", l.role, strings.Join(l.lost.APIGroups, ","), strings.Join(l.lost.Resources, ","), strings.Join(l.lost.Verbs, ","))
}

// seenIn reports whether a log has a refusal for lack of the lost right.
func (l *loss) seenIn(log string) bool {
	log = strings.ReplaceAll(log, `\`, "")
	for _, resource := range l.lost.Resources {
		// The admission plugin OwnerReferencesPermissionEnforcement checks this right, with a message of its own.
		if strings.HasSuffix(resource, "/finalizers") && strings.Contains(log, "refers to a resource you can't set finalizers on") {
			return true
		}
		if slices.Contains(l.lost.Verbs, "delete") && strings.Contains(log, "cannot set an ownerRef on a resource you can't delete") {
			return true
		}
		for _, verb := range l.lost.Verbs {
			if strings.Contains(log, fmt.Sprintf("cannot %s resource %q in API group %q", verb, resource, l.lost.APIGroups[0])) {
				return true
			}
		}
	}
	return false
}

// losses returns each possible loss of a role.
func losses(r *role) (all []*loss) {
	rules := *r.rules()
	for i, rule := range rules {
		others := slices.Delete(slices.Clone(rules), i, i+1)
		if !*verbs {
			all = append(all, &loss{role: r, rules: others, lost: rule})
			continue
		}
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				lost := rbacv1.PolicyRule{APIGroups: rule.APIGroups, ResourceNames: rule.ResourceNames, Resources: []string{resource}, Verbs: []string{verb}}
				left := append(slices.Clone(others), without(rule, resource, verb)...)
				all = append(all, &loss{role: r, rules: left, lost: lost})
			}
		}
	}
	return all
}

// without returns a rule without one verb on one resource.
func without(rule rbacv1.PolicyRule, resource, verb string) (rules []rbacv1.PolicyRule) {
	for _, other := range rule.Resources {
		left := slices.Clone(rule.Verbs)
		if other == resource {
			left = slices.DeleteFunc(left, func(v string) bool { return v == verb })
		}
		if len(left) > 0 {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: rule.APIGroups, ResourceNames: rule.ResourceNames, Resources: []string{other}, Verbs: left})
		}
	}
	return rules
}

func TestNothingIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := begin(t, "")
	if err := r.use(ctx); err != nil {
		t.Errorf("%v\n%s", err, r.dispatcher.LogTail(logLines))
	}
	r.end()
	if log := r.logs(); strings.Contains(log, "forbidden") {
		t.Errorf("something was refused:\n%s", linesWith(log, "forbidden"))
	}
}

func TestEveryRuleIsNeeded(t *testing.T) {
	for _, program := range []string{"manager", "dispatcher"} {
		for _, object := range []client.Object{&rbacv1.ClusterRole{}, &rbacv1.Role{}} {
			key := client.ObjectKey{Name: "postback-" + program}
			if _, namespaced := object.(*rbacv1.Role); namespaced {
				key.Namespace = operator.Namespace
			}
			if err := api.Get(t.Context(), key, object); err != nil {
				t.Fatal(err)
			}
			of := &role{program: program, object: object}
			all := losses(of)
			if len(all) == 0 {
				t.Errorf("%s has no rules", of)
			}
			for _, l := range all {
				if granted[l.String()] != "" {
					continue
				}
				t.Run(l.String(), func(t *testing.T) { checkLoss(t, l) })
			}
		}
	}
}

// checkLoss removes a right, uses the operator, and checks that the program's log has a refusal.
func checkLoss(t *testing.T, l *loss) {
	all := slices.Clone(*l.role.rules())
	setRules(t, l, l.rules, false)
	defer setRules(t, l, all, true)
	r := begin(t, l.role.namespace)
	ctx, cancel := context.WithTimeout(t.Context(), refusal)
	used := make(chan error, 1)
	go func() { used <- r.use(ctx) }()
	g := gomega.NewWithT(t)
	seen := func() bool { return l.seenIn(r.logOf(l.role.program)) }
	over := false
	g.Eventually(func() bool {
		select {
		case <-used:
			over = true
		default:
		}
		return over || seen()
	}).WithTimeout(patience).WithPolling(polling).Should(gomega.BeTrue())
	cancel()
	if !over {
		<-used
	}
	r.end()
	if !seen() && unseen[l.String()] == "" {
		t.Errorf("nothing is refused without %s: the rule can go, or the test has to use more.\n%s", l, linesWith(r.logs(), "forbidden"))
	}
}

// setRules changes the rules of a role, and waits until the API server applies them. granted is whether they grant
// the lost right.
func setRules(t *testing.T, l *loss, rules []rbacv1.PolicyRule, granted bool) {
	t.Helper()
	// The context of the test may have ended.
	ctx := context.WithoutCancel(t.Context())
	*l.role.rules() = rules
	if err := api.Update(ctx, l.role.object); err != nil {
		t.Fatal(err)
	}
	resource, subresource, _ := strings.Cut(l.lost.Resources[0], "/")
	question := authorizationv1.SubjectAccessReviewSpec{
		User: "system:serviceaccount:" + operator.Namespace + ":postback-" + l.role.program,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: l.role.object.GetNamespace(), Group: l.lost.APIGroups[0], Resource: resource, Subresource: subresource, Verb: l.lost.Verbs[0],
		},
	}
	if len(l.lost.ResourceNames) > 0 {
		question.ResourceAttributes.Name = l.lost.ResourceNames[0]
	}
	gomega.NewWithT(t).Eventually(func() (bool, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: question}
		err := api.Create(ctx, review)
		return review.Status.Allowed, err
	}).WithTimeout(patience).WithPolling(polling).Should(gomega.Equal(granted))
}

func linesWith(log, word string) string {
	var found []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found[:min(len(found), logLines)], "")
}

// deleteLeases deletes the Leases of earlier runs, so that no program waits for one to expire and each has to create
// its own.
func deleteLeases(t *testing.T) {
	t.Helper()
	if err := api.DeleteAllOf(t.Context(), &coordinationv1.Lease{}, client.InNamespace(operator.Namespace)); err != nil {
		t.Fatal(err)
	}
}
