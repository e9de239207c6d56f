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
	"maps"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// replicas are the dispatcher replicas, read from their Leases.
type replicas struct {
	// unreadable says that the caller may not read the Leases.
	unreadable bool
	// alive maps the Lease of each live replica to its watched namespaces. stale are the Leases of the others.
	alive map[string]watched.Namespaces
	stale []string
	// unready maps the identity of a live replica that accepts no events to its reason.
	unready map[string]string
	// clocks maps the name of a Lease to how far its holder's clock is ahead of the API server's, if that exceeds
	// clockSlack.
	clocks map[string]time.Duration
	// holders maps the name of each leader election's Lease to its holder.
	holders map[string]string
}

// replicas reads the Leases of the installation: the live replicas, and the elected ones.
func (o *doctorOptions) replicas(ctx context.Context, s *scope, r *report) *replicas {
	found := &replicas{alive: map[string]watched.Namespaces{}, unready: map[string]string{}, clocks: map[string]time.Duration{}, holders: map[string]string{}}
	list := &coordinationv1.LeaseList{}
	if err := s.List(ctx, list, client.InNamespace(o.installNamespace)); err != nil {
		r.unreadable("The Leases of the replicas", err)
		found.unreadable = true
		return found
	}
	now := o.clock.Now().Add(-o.ahead)
	for i := range list.Items {
		lease := &list.Items[i]
		if ahead := clockAhead(lease); ahead.Abs() > clockSlack {
			found.clocks[lease.Name] = ahead
			lease.Spec.RenewTime.Time = lease.Spec.RenewTime.Add(-ahead)
		}
		isReplica := lease.Labels[v1alpha1.ReplicaLabel] == "true"
		switch alive := leaseAlive(lease, now); {
		case isReplica && alive:
			found.alive[lease.Name] = watched.Of(lease.Annotations[v1alpha1.WatchedNamespacesAnnotation])
			if why := lease.Annotations[v1alpha1.UnreadyReasonAnnotation]; why != "" {
				found.unready[ptr.Deref(lease.Spec.HolderIdentity, lease.Name)] = why
			}
		case isReplica:
			found.stale = append(found.stale, lease.Name)
		case alive && lease.Spec.HolderIdentity != nil:
			found.holders[lease.Name] = *lease.Spec.HolderIdentity
		}
	}
	return found
}

// watched returns the namespaces that one live dispatcher replica watches, or all if none is alive. checkWatched
// reports differences between replicas.
func (k *replicas) watched() watched.Namespaces {
	for _, name := range slices.Sorted(maps.Keys(k.alive)) {
		return k.alive[name]
	}
	return watched.Namespaces{}
}

const unreadyRemedy = "The replica corrects what it can by itself within seconds; otherwise: docs/runbooks/PostbackNATSStreamsWrong.md, docs/runbooks/PostbackNATSUnreachable.md"

// checkReplicas reports the live replicas and the elected ones.
func (o *doctorOptions) checkReplicas(r *report, known *replicas) {
	if known.unreadable {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(known.clocks)) {
		ahead, how := known.clocks[name], "ahead of"
		if ahead < 0 {
			ahead, how = -ahead, "behind"
		}
		r.add(finding{
			warning, "The clock of the holder of Lease " + name + " is " + ahead.Round(time.Second).String() + " " + how + " the API server's",
			"Set the clock of its node: otherwise other replicas misjudge the expiry of its Lease",
		})
	}
	if len(known.alive) == 0 {
		r.add(finding{bad, "No dispatcher replica is alive", "kubectl -n " + o.installNamespace + " get pods,leases: events are neither accepted nor delivered"})
	} else {
		r.good("Dispatcher replicas that are alive: %d", len(known.alive))
	}
	for _, name := range slices.Sorted(maps.Keys(known.unready)) {
		r.add(finding{bad, "Dispatcher replica " + name + " accepts no events: " + known.unready[name], unreadyRemedy})
	}
	if len(known.stale) > 0 {
		r.add(finding{warning, "Leases of replicas that are gone: " + strings.Join(known.stale, ", "), "They are deleted with their Pods; if not, delete them"})
	}
	o.checkHolder(r, known.holders[managerLease], "the manager works", "No manager is active", "keys, routes, test events and conditions wait")
	o.checkHolder(r, known.holders[v1alpha1.RetriesLeaseName], "the retries are owned", "Nobody owns the retries", "failed deliveries are not retried")
}

const watchRemedy = "Add it to --" + watched.Flag + " of manager and dispatcher, and apply the Roles of config/rbac/namespace there: docs/operations.md"

// checkWatched reports the watched namespaces, unless all are watched.
func (o *doctorOptions) checkWatched(s *scope, r *report, known *replicas) {
	all := known.watched()
	for _, name := range slices.Sorted(maps.Keys(known.alive)) {
		if other := known.alive[name]; other.String() != all.String() {
			r.add(finding{warning, "The dispatcher replicas watch different namespaces: " + all.String() + "; " + other.String(), "Wait for the rollout to end; if it has, give all the same --" + watched.Flag + ", or look at the log for what they lack"})
			break
		}
	}
	switch {
	case all.All():
	case all.Has(s.namespace):
		r.good("Namespaces that are watched, of which yours is one: %d", len(all.Scopes()))
	default:
		r.add(finding{warning, "The operator does not watch your namespace, " + s.namespace, watchRemedy})
	}
}

func (o *doctorOptions) checkHolder(r *report, holder, is, isNot, consequence string) {
	if holder == "" {
		r.add(finding{bad, isNot, "kubectl -n " + o.installNamespace + " get pods,leases; until then " + consequence})
		return
	}
	r.good("%s%s, by %s", strings.ToUpper(is[:1]), is[1:], holder)
}

// longestSkew bounds the plausible error of a clock. A Lease with a larger difference was not written by its holder,
// but for example by a restore. With such a clock, the holder would accept no certificate of the API server.
const longestSkew = 24 * time.Hour

// clockAhead returns how far the clock of a Lease's holder is ahead of the API server's, which records the time of
// each write.
func clockAhead(lease *coordinationv1.Lease) time.Duration {
	var written time.Time
	for i := range lease.ManagedFields {
		if at := lease.ManagedFields[i].Time; at != nil && at.After(written) {
			written = at.Time
		}
	}
	if lease.Spec.RenewTime == nil || written.IsZero() {
		return 0
	}
	ahead := lease.Spec.RenewTime.Sub(written)
	if ahead.Abs() > longestSkew {
		return 0
	}
	return ahead
}

// leaseAlive reports whether a Lease has been renewed within its duration, plus clockSlack.
func leaseAlive(lease *coordinationv1.Lease, now time.Time) bool {
	if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return false
	}
	return now.Sub(lease.Spec.RenewTime.Time) < time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second+clockSlack
}
