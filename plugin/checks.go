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

package plugin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/internal/waiting"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const (
	// oldestServer is the oldest supported version of Kubernetes.
	oldestServer = "1.33"
	// managerLease is the Lease of the manager's leader election.
	managerLease = "postback-manager"
	// lateAfter is how long an attempt may be overdue before a warning. clockSlack is the tolerated difference of
	// clocks.
	lateAfter  = 2 * time.Minute
	clockSlack = 5 * time.Second
	// manyDeliveries is the number of PostbackDeliveries that causes a warning. It is Kubernetes' own target for
	// objects of a kind.
	manyDeliveries = 10000
	testPatience   = time.Minute
)

// checkKinds checks that the API server answers, is recent enough, and serves the operator's kinds.
func (o *doctorOptions) checkKinds(ctx context.Context, r *report) error {
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	clients, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	server, err := clients.ServerVersion()
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	if v, err := version.ParseGeneric(server.GitVersion); err == nil && v.LessThan(version.MustParseGeneric(oldestServer)) {
		r.add(finding{warning, "Kubernetes " + server.GitVersion + " is older than " + oldestServer, "Upgrade the cluster: some rules of the kinds may not hold there"})
	} else {
		r.good("Kubernetes %s", server.GitVersion)
	}
	o.checkClock(ctx, config, r)
	served, err := clients.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if apierrors.IsNotFound(err) {
		r.add(finding{bad, "The kinds of " + v1alpha1.GroupVersion.String() + " are not installed", "Install the CustomResourceDefinitions: make install, or the whole operator"})
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for the kinds: %w", err)
	}
	var missing []string
	for _, name := range []string{"postbacks", "postbacksecrets", "postbackdeliveries", "postbackstatistics"} {
		if !slices.ContainsFunc(served.APIResources, func(a metav1.APIResource) bool { return a.Name == name }) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		r.add(finding{bad, "Kinds are missing: " + strings.Join(missing, ", "), "Install all CustomResourceDefinitions of one release"})
		return nil
	}
	r.good("The kinds of %s are there", v1alpha1.GroupVersion)
	return nil
}

// checkClock compares this machine's clock with the header Date of the API server.
func (o *doctorOptions) checkClock(ctx context.Context, config *rest.Config, r *report) {
	clients, err := rest.HTTPClientFor(config)
	if err != nil {
		r.unreadable("The clock of the API server", err)
		return
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(config.Host, "/")+"/version", http.NoBody)
	if err != nil {
		r.unreadable("The clock of the API server", err)
		return
	}
	response, err := clients.Do(request)
	if err != nil {
		r.unreadable("The clock of the API server", err)
		return
	}
	_ = response.Body.Close()
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return
	}
	// The header Date has whole seconds.
	skew := o.clock.Now().Sub(at).Round(time.Second)
	if skew.Abs() > clockSlack {
		o.ahead = skew
	}
	if skew.Abs() > clockSlack {
		r.add(finding{warning, fmt.Sprintf("This machine's clock differs from the API server's by %s", skew), "Set the clocks: ages and due times depend on this machine's"})
		return
	}
	r.good("This machine's clock agrees with the API server's")
}

// checkRights checks the caller's rights.
func (o *doctorOptions) checkRights(ctx context.Context, s *scope, r *report) {
	group := v1alpha1.GroupVersion.Group
	own := []rbacreview.Right{
		{Verb: "list", Group: group, Resource: "postbacks", Namespace: s.namespace},
		{Verb: "watch", Group: group, Resource: "postbackdeliveries", Namespace: s.namespace},
		{Verb: "patch", Group: group, Resource: "postbacks", Namespace: s.namespace},
		{Verb: "patch", Group: group, Resource: "postbacksecrets", Namespace: s.namespace},
		{Verb: "patch", Group: group, Resource: "postbackdeliveries", Namespace: s.namespace},
		{Verb: "get", Resource: "secrets", Namespace: s.namespace},
	}
	var lacking []string
	for _, t := range own {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: t.Attributes()}}
		if err := s.Create(ctx, review); err != nil {
			r.unreadable("Your rights", err)
			return
		}
		if !review.Status.Allowed {
			lacking = append(lacking, t.Verb+" "+t.Resource)
		}
	}
	if len(lacking) > 0 {
		r.add(finding{warning, "You may not, in namespace " + s.namespace + ": " + strings.Join(lacking, ", "), "Bind a role: view and postback-viewer read, edit and postback-editor change, and secrets are for the signing keys"})
	} else {
		r.good("You may see and steer everything in namespace %s", s.namespace)
	}
}

// checkAccounts checks the rights of the operator's ServiceAccounts in the namespaces that it watches.
func (o *doctorOptions) checkAccounts(ctx context.Context, s *scope, r *report, known *replicas) {
	group := v1alpha1.GroupVersion.Group
	manager := []rbacreview.Right{{Verb: "create", Resource: "secrets", Namespace: o.installNamespace}}
	dispatcher := []rbacreview.Right{
		{Verb: "watch", Resource: "secrets", Namespace: o.installNamespace},
		{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"},
		{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
	}
	for _, namespace := range known.watched().Scopes() {
		manager = append(manager,
			rbacreview.Right{Verb: "watch", Group: group, Resource: "postbacks", Namespace: namespace}, rbacreview.Right{Verb: "patch", Group: group, Resource: "postbacks/status", Namespace: namespace},
			rbacreview.Right{Verb: "create", Group: group, Resource: "postbackdeliveries", Namespace: namespace})
		dispatcher = append(dispatcher,
			rbacreview.Right{Verb: "create", Group: group, Resource: "postbackdeliveries", Namespace: namespace}, rbacreview.Right{Verb: "update", Group: group, Resource: "postbackdeliveries/status", Namespace: namespace})
	}
	remedy := "Apply the roles and bindings of the release again: config/rbac"
	if len(known.alive) == 0 {
		remedy += ". An installation with --" + watched.Flag + " needs them only in the named namespaces"
	}
	o.checkAccount(ctx, s, r, "postback-manager", manager, remedy)
	o.checkAccount(ctx, s, r, "postback-dispatcher", dispatcher, remedy)
}

func (o *doctorOptions) checkAccount(ctx context.Context, s *scope, r *report, account string, rights []rbacreview.Right, remedy string) {
	var lacking []string
	for _, t := range rights {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + o.installNamespace + ":" + account, Groups: []string{"system:serviceaccounts", "system:authenticated"}, ResourceAttributes: t.Attributes(),
		}}
		if err := s.Create(ctx, review); err != nil {
			r.unreadable("The rights of ServiceAccount "+account, err)
			return
		}
		if !review.Status.Allowed {
			lacking = append(lacking, t.String())
		}
	}
	if len(lacking) > 0 {
		r.add(finding{bad, "ServiceAccount " + account + " may not " + strings.Join(lacking, ", "), remedy})
		return
	}
	r.good("ServiceAccount %s has its rights", account)
}

// checkPostbacks checks the Postbacks and their backlog: in all namespaces if the caller has the right, or else in
// one.
func (o *doctorOptions) checkPostbacks(ctx context.Context, s *scope, r *report, known *replicas) {
	everywhere := &scope{WithWatch: s.WithWatch}
	list := &v1alpha1.PostbackList{}
	where := "in all namespaces"
	if err := everywhere.List(ctx, list); apierrors.IsForbidden(err) {
		everywhere, where = s, "in namespace "+s.namespace
		err = s.List(ctx, list, client.InNamespace(s.namespace))
		if err != nil {
			r.unreadable("The Postbacks", err)
			return
		}
	} else if err != nil {
		r.unreadable("The Postbacks", err)
		return
	}
	b := o.backlog(ctx, everywhere)
	everywhere.loggedActivities(ctx, list.Items, b.activities)
	ready := 0
	for i := range list.Items {
		p := &list.Items[i]
		if o.checkPostback(r, p, known) {
			ready++
		}
		if known.watched().Has(p.Namespace) {
			o.checkHealth(r, p, b.activities[client.ObjectKeyFromObject(p)])
		}
	}
	r.good("Postbacks that are ready, %s: %d of %d", where, ready, len(list.Items))
	o.checkBacklog(r, b, where)
	checkStream(r, list.Items)
}

// checkPostback reports the problems of a Postback. It returns true if the Postback is ready.
func (o *doctorOptions) checkPostback(r *report, p *v1alpha1.Postback, known *replicas) (ready bool) {
	if !known.watched().Has(p.Namespace) {
		r.add(finding{warning, fmt.Sprintf("Postback %s/%s is in a namespace that the operator does not watch", p.Namespace, p.Name), watchRemedy})
		return false
	}
	ready = readyCell(p).colour == green
	switch {
	case !ready:
		r.add(finding{warning, fmt.Sprintf("Postback %s/%s is not ready", p.Namespace, p.Name), readyMessage(p)})
	case o.postback != "":
		r.good("Postback %s/%s is ready", p.Namespace, p.Name)
	}
	return ready
}

// checkHealth reports the problems of a Postback's endpoint. It returns true if there are none. a is nil without
// deliveries.
func (o *doctorOptions) checkHealth(r *report, p *v1alpha1.Postback, a *activity) (healthy bool) {
	health := a.health(p)
	what := "The endpoint of postback %s/%s is in trouble"
	switch health.Grade {
	case waiting.Bad:
	case waiting.Warning:
		what = "Some attempts of postback %s/%s fail"
	default:
		return true
	}
	r.add(finding{warning, fmt.Sprintf(what, p.Namespace, p.Name), health.Reason + ": " + health.Note(waiting.Endpoint(p, o.clock.Now()))})
	return false
}

// backlog is the summary of the deliveries in a scope.
type backlog struct {
	err                      error
	total, pending, retrying int
	activities               map[client.ObjectKey]*activity
	waits                    waitCounts
}

func (o *doctorOptions) backlog(ctx context.Context, s *scope) *backlog {
	b, waits := &backlog{}, o.waits(ctx, s, s.namespace)
	b.activities, b.err = s.activities(ctx, func(d *v1alpha1.PostbackDelivery) {
		b.total++
		b.waits.add(d, waits.of(d))
	})
	if b.err != nil {
		b.activities = map[client.ObjectKey]*activity{} // The summary is incomplete.
	}
	for _, a := range b.activities {
		b.pending += a.pending
		b.retrying += a.retrying
	}
	return b
}

func (o *doctorOptions) checkBacklog(r *report, b *backlog, where string) {
	if b.err != nil {
		r.unreadable("The backlog", b.err)
		return
	}
	text := fmt.Sprintf("Deliveries %s: %d, of which %d pending and %d being retried", where, b.total, b.pending, b.retrying) + b.waits.text()
	now := o.clock.Now()
	switch {
	case !b.waits.oldestDue.IsZero() && now.Sub(b.waits.oldestDue) > lateAfter:
		r.add(finding{
			warning, text + fmt.Sprintf("; the oldest that waits for nothing else has been due for %s", now.Sub(b.waits.oldestDue).Round(time.Second)),
			"The dispatcher is late: see its log, and docs/runbooks/PostbackDeliveriesOverdue.md",
		})
	case b.total > manyDeliveries:
		r.add(finding{warning, text, fmt.Sprintf("Kubernetes is made for %d objects of a kind: lower spec.history, or --max-finished-deliveries", manyDeliveries)})
	default:
		r.good("%s", text)
	}
}
