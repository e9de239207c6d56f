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

package retry

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=postback-system

// Election takes part in the election of the replica that owns the retries. A lost election does not end the process,
// unlike in a controller-runtime manager: ingest and attempts in flight continue.
type Election struct {
	Client    kubernetes.Interface
	Namespace string
	// Identity of this replica, unique among the replicas.
	Identity string
	// Finished finds redelivery requests of finished deliveries, which the cache does not have.
	Finished Finished
	// Reconciler makes the retries of the elected replica.
	Reconciler *Reconciler
	// LeaseDuration, RenewDeadline and RetryPeriod are options of client-go's elector. Their defaults are 15s, 10s
	// and 2s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	elected atomic.Bool
	// validUntil is when this replica's Lease expires unless it is renewed; nil means that the replica does not hold
	// it.
	validUntil atomic.Pointer[deadline]
	// led is true if this process has owned the retries before.
	led bool
}

// deadline is a time by both clocks. The monotonic clock stops while a machine is suspended; the wall clock may be
// set back.
type deadline struct{ monotonic, wall time.Time }

func deadlineAt(at time.Time) *deadline { return &deadline{at, at.Round(0)} }

func (d *deadline) ahead() bool {
	now := time.Now()
	return now.Before(d.monotonic) && now.Before(d.wall)
}

// Elected reports whether this replica owns the retries.
func (e *Election) Elected() bool { return e.elected.Load() }

// HoldsLease reports whether this replica is elected and its Lease has not expired. A process that was suspended may
// still count as elected although another replica is.
func (e *Election) HoldsLease() bool { return e.Elected() && e.valid() }

// Begin reports whether this replica may begin an attempt that only the elected replica makes. If so, the caller
// must call end once the attempt is recorded; until then the Lease is not released.
func (e *Election) Begin() (end func(), ok bool) {
	if !e.HoldsLease() || !e.Reconciler.begin() {
		return nil, false
	}
	return e.Reconciler.attempts.Done, true
}

// Inherited returns when this replica took the retries over from one that had not released them, or the zero time.
func (e *Election) Inherited() time.Time { return e.Reconciler.inheritedAt() }

// valid reports whether this replica holds the Lease and it has not expired, by both clocks.
func (e *Election) valid() bool {
	until := e.validUntil.Load()
	return until != nil && until.ahead()
}

// NeedLeaderElection implements manager.LeaderElectionRunnable. Election is not subject to the manager's own
// election.
func (e *Election) NeedLeaderElection() bool { return false }

// Start takes part until ctx ends and the attempts in flight are recorded. It then releases the Lease, so that the
// next elected replica repeats no attempt.
func (e *Election) Start(ctx context.Context) error {
	ctx = logf.IntoContext(ctx, logf.FromContext(ctx).WithName("election").WithValues("identity", e.Identity))
	finished, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	defer context.AfterFunc(ctx, func() {
		e.Reconciler.Finish()
		release()
	})()
	lock := &watchedLock{election: e, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.Namespace, Name: v1alpha1.RetriesLeaseName},
		Client:     e.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
	}}
	for finished.Err() == nil {
		if err := e.term(finished, lock); err != nil {
			return err
		}
	}
	if err := lock.release(ctx); err != nil {
		logf.FromContext(ctx).Error(err, "Cannot release the Lease; it expires")
	}
	return nil
}

// term waits until this replica is elected, and returns when it no longer is.
func (e *Election) term(ctx context.Context, lock *watchedLock) error {
	log := logf.FromContext(ctx)
	over := make(chan struct{})
	lock.predecessor.Store(nil)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		Name:          v1alpha1.RetriesLeaseName,
		LeaseDuration: e.leaseDuration(),
		RenewDeadline: e.renewDeadline(),
		RetryPeriod:   cmp.Or(e.RetryPeriod, 2*time.Second),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(over)
				predecessor := ptr.Deref(lock.predecessor.Load(), "")
				log.Info("Elected: this replica owns the retries", "predecessor", predecessor)
				if e.inherits(predecessor) {
					e.Reconciler.inherit(time.Now())
				}
				e.led = true
				e.lead(ctx)
				log.Info("No longer elected")
			},
			OnStoppedLeading: func() { e.elected.Store(false) },
		},
	})
	if err != nil {
		return fmt.Errorf("elect the replica for the retries: %w", err)
	}
	elector.Run(ctx)
	// If Run ends without an election, ctx has ended. Otherwise wait for the end of lead.
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}

// inherits reports whether a predecessor did not release the Lease, so that it may have made unrecorded attempts.
// This process knows its own attempts; a restarted container has the identity of its predecessor, but not its memory.
func (e *Election) inherits(predecessor string) bool {
	return predecessor != "" && (predecessor != e.Identity || !e.led)
}

func (e *Election) leaseDuration() time.Duration { return cmp.Or(e.LeaseDuration, 15*time.Second) }

func (e *Election) renewDeadline() time.Duration { return cmp.Or(e.RenewDeadline, 10*time.Second) }

// renewed records that a request which began at a time has written the Lease.
func (e *Election) renewed(at time.Time) { e.validUntil.Store(deadlineAt(at.Add(e.leaseDuration()))) }

// lost records that another replica holds the Lease, or may acquire it from now on.
func (e *Election) lost() { e.validUntil.Store(nil) }

// lead makes this replica own the retries until ctx ends.
func (e *Election) lead(ctx context.Context) {
	e.elected.Store(true)
	defer e.elected.Store(false)
	e.Reconciler.wakeAll()
	e.Finished.Follow(ctx, func(key types.NamespacedName) {
		e.Reconciler.ReconcileFinished(key)
		e.Reconciler.Add(key)
	})
}
