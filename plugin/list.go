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
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

type listOptions struct {
	*logSource
	output        *output
	allNamespaces bool
}

func (e *env) listCommand() *cobra.Command {
	o := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List Postbacks: state, health, pending deliveries, success rate, and last success",
		Example: "  kubectl postback list\n  kubectl postback list -A -o wide",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.output = newOutput(cmd, true)
	o.logSource = e.withLog(cmd.Flags())
	cmd.Flags().BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "List the Postbacks of all namespaces.")
	return cmd
}

func (o *listOptions) run(ctx context.Context) error {
	printObject, err := o.output.printer()
	if err != nil {
		return err
	}
	s, err := o.scope()
	if err != nil {
		return err
	}
	defer o.close()
	o.report = func(err error) {
		say(o.ErrOut, "The delivery log could not be read, so newer successes may be missing in LAST SUCCESS: %s", visible(firstLine(explain(err))))
		say(o.ErrOut, "%s", logRemedy)
	}
	if o.allNamespaces {
		s.namespace = metav1.NamespaceAll
	}
	list := &v1alpha1.PostbackList{}
	if err := s.List(ctx, list, client.InNamespace(s.namespace)); err != nil {
		return err
	}
	if printObject != nil {
		return printObject(o.env, list)
	}
	if len(list.Items) == 0 {
		return o.none(s.namespace)
	}
	activities, err := s.activities(ctx)
	if err != nil {
		return err
	}
	s.loggedActivities(ctx, list.Items, activities)
	counts := s.statistics(ctx)
	if counts.err != nil {
		say(o.ErrOut, "The success rates are unknown, because the PostbackStatistics cannot be read: %s", visible(explain(counts.err)))
	}
	return o.print(list.Items, activities, counts)
}

func (o *listOptions) none(namespace string) error {
	if namespace == metav1.NamespaceAll {
		say(o.ErrOut, "There are no Postbacks. Make one with \"kubectl postback create\".")
		return nil
	}
	say(o.ErrOut, "There are no Postbacks in namespace %s. Make one with \"kubectl postback create\", or choose another namespace with -n or -A.", namespace)
	return nil
}

func (o *listOptions) print(postbacks []v1alpha1.Postback, activities map[client.ObjectKey]*activity, counts counted) error {
	t := newTable(o.Out, o.output.wide,
		column{name: "NAMESPACE", least: 8, wide: !o.allNamespaces}, column{name: "NAME", least: 8}, column{name: "STATE"}, column{name: "READY"}, column{name: "HEALTH"},
		column{name: "HOST", least: 10}, column{name: "TRIGGERS", least: 10}, column{name: "PENDING"}, column{name: "SUCCESS 24H"}, column{name: "LAST SUCCESS"},
		column{name: "DELIVERED 24H", wide: true}, column{name: "FAILED 24H", wide: true}, column{name: "DISPLAY NAME", wide: true}, column{name: "SECRET", wide: true}, column{name: "NEXT ATTEMPT", wide: true}, column{name: "WAITS", wide: true}, column{name: "MESSAGE", wide: true})
	var rows []row
	for i := range postbacks {
		p := &postbacks[i]
		key := client.ObjectKeyFromObject(p)
		a := activities[key]
		if a == nil {
			a = &activity{}
		}
		lastSuccess := a.lastSuccess
		if at := counts.lastSuccess(key); at.After(lastSuccess) {
			lastSuccess = at
		}
		rate, delivered, failed := counts.cells(key, o.clock.Now())
		message := ""
		if ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ReadyCondition); ready != nil {
			message = ready.Message
		}
		backlog := waiting.Backlog(p, o.clock.Now())
		rows = append(rows, row{
			plain(p.Namespace), plain(p.Name), stateCell(p), readyCell(p), healthCell(a.health(p)), plain(p.Status.EndpointHost),
			plain(action.Triggers(p.Spec.Triggers)), a.pendingCell(p.Status.GetBacklog()), rate, plain(ago(lastSuccess, o.clock.Now())),
			delivered, failed, plain(p.Spec.DisplayName), plain(p.Status.SecretName), plain(nextText(backlog, o.clock.Now())), plain(cmp.Or(waiting.Postback(p, o.clock.Now()), backlog).Sentence), plain(message),
		})
	}
	return t.print(o.Out, rows...)
}

func stateCell(p *v1alpha1.Postback) cell {
	state := p.Spec.GetState()
	if state == v1alpha1.PostbackEnabled {
		return plain(string(state))
	}
	return cell{string(state), yellow}
}

// readyCell shows "Yes", or the reason why the Postback is not ready.
func readyCell(p *v1alpha1.Postback) cell {
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ReadyCondition)
	switch {
	case ready == nil || p.Status.ObservedGeneration != p.Generation:
		return cell{"Unknown", yellow}
	case ready.Status == metav1.ConditionTrue:
		return cell{"Yes", green}
	case meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.StalledCondition):
		return cell{ready.Reason, red}
	}
	return cell{ready.Reason, yellow}
}

// healthCell shows the reason of an endpoint's health, or nothing if the health is unknown.
func healthCell(h waiting.Health) cell { return cell{h.Reason, gradeColours[h.Grade]} }

var gradeColours = map[waiting.Grade]colour{waiting.Good: green, waiting.Neutral: yellow, waiting.Warning: yellow, waiting.Bad: red}

// activity is a summary of one Postback's deliveries.
type activity struct {
	pending, retrying      int
	lastSuccess, oldestDue time.Time
	// recent are the newest attempts. It is empty if the delivery log cannot be read, because successes are missing
	// then.
	recent waiting.Recent
}

// health returns the health of the Postback's endpoint. a may be nil.
func (a *activity) health(p *v1alpha1.Postback) waiting.Health {
	if a == nil {
		return waiting.HealthOf(p, nil)
	}
	return waiting.HealthOf(p, a.recent)
}

// pendingCell shows the number of unfinished PostbackDeliveries plus the backlog in a stream.
func (a *activity) pendingCell(backlog int64) cell {
	unfinished := a.pending + a.retrying + int(backlog)
	if unfinished == 0 {
		return plain("0")
	}
	return cell{decimal(unfinished), yellow}
}

func (a *activity) add(d *v1alpha1.PostbackDelivery) {
	for i := range d.Status.Attempts {
		a.recent.Add(waiting.AttemptOf(&d.Status.Attempts[i]))
	}
	switch d.Status.Phase {
	case v1alpha1.DeliveryDelivered:
		if at := d.Status.CompletionTime; at != nil && at.After(a.lastSuccess) {
			a.lastSuccess = at.Time
		}
		return
	case v1alpha1.DeliveryFailed:
		return
	case v1alpha1.DeliveryRetrying:
		a.retrying++
	default:
		a.pending++
	}
	due := delivery.DueTime(d)
	if a.oldestDue.IsZero() || due.Before(a.oldestDue) {
		a.oldestDue = due
	}
}

// activities has the activity of each Postback.
type activities map[client.ObjectKey]*activity

// add adds a delivery to the activity of its Postback, and returns the key of the Postback.
func (a activities) add(d *v1alpha1.PostbackDelivery) client.ObjectKey {
	key := client.ObjectKey{Namespace: d.Namespace, Name: d.Spec.PostbackRef.Name}
	if a[key] == nil {
		a[key] = &activity{}
	}
	a[key].add(d)
	return key
}

// activities summarises the scope's PostbackDeliveries by Postback. It also calls each function with every delivery.
func (s *scope) activities(ctx context.Context, each ...func(*v1alpha1.PostbackDelivery)) (activities, error) {
	found := activities{}
	return found, deliveries.EachObject(ctx, s, deliveries.Query{Namespace: s.namespace}, func(d *v1alpha1.PostbackDelivery) {
		found.add(d)
		for _, see := range each {
			see(d)
		}
	})
}

// maxLookups bounds the Postbacks whose log entries are read separately.
const maxLookups = 40

// newestLogged is the number of log entries that are read for all Postbacks together.
const newestLogged = 500

// loggedActivities adds each Postback's newest successes from the delivery log. It reads the entries of maxLookups
// Postbacks separately if the common page lacks them. For any other it forgets attempts before that page, because
// successes may be missing.
func (s *scope) loggedActivities(ctx context.Context, postbacks []v1alpha1.Postback, found activities) {
	since, seen := s.addLogged(ctx, deliveries.Query{Namespace: s.namespace, Limit: newestLogged}, found)
	for i, n := 0, 0; i < len(postbacks) && !since.IsZero(); i++ {
		key := client.ObjectKeyFromObject(&postbacks[i])
		switch {
		case !seen[key] && n < maxLookups:
			s.addLogged(ctx, deliveries.Query{Namespace: key.Namespace, Postback: key.Name, Limit: waiting.MaxRecent}, found)
			n++
		case found[key] != nil:
			found[key].recent.Since(since)
		}
	}
	if s.log.incomplete() == nil {
		return
	}
	for _, a := range found {
		a.recent = nil
	}
}

// addLogged adds a page of the delivery log to the activities found so far. It returns the Postbacks on the page, and the time since
// which the page is complete; zero means that nothing is missing.
func (s *scope) addLogged(ctx context.Context, q deliveries.Query, found activities) (since time.Time, seen map[client.ObjectKey]bool) {
	log := s.log.open(ctx, s).Log
	if log == nil {
		return time.Time{}, nil
	}
	page, err := log.List(ctx, q)
	if err != nil {
		s.log.failed(err)
		return time.Time{}, nil
	}
	if page.Continue != "" {
		since = s.log.clock.Now()
	}
	seen = map[client.ObjectKey]bool{}
	for i := range page.Items {
		d := &page.Items[i]
		seen[found.add(d)] = true
		if page.Continue != "" {
			since = d.CreationTimestamp.Time
		}
	}
	return since, seen
}
