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

// Election takes part in the election of the replica that owns the retries. Losing it does not end the process, unlike
// the election of a controller-runtime manager: ingest and attempts in flight continue.
type Election struct {
	Client    kubernetes.Interface
	Namespace string
	// Identity of this replica, unique among them.
	Identity string
	// Finished finds the requests of redelivery that the cache does not show.
	Finished Finished
	// Reconciler is told what an elected replica has to do.
	Reconciler *Reconciler
	// LeaseDuration, RenewDeadline and RetryPeriod are those of client-go; zero means 15s, 10s and 2s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	elected atomic.Bool
	// validUntil is when the Lease runs out unless it is renewed, by this machine's clocks; nil if it is another's.
	validUntil atomic.Pointer[deadline]
	// led says that this process has owned the retries before.
	led bool
}

// deadline is a point in time by both clocks. The monotonic one stops while a machine is suspended, and the other one
// may be set back.
type deadline struct{ monotonic, wall time.Time }

func deadlineAt(at time.Time) *deadline { return &deadline{at, at.Round(0)} }

func (d *deadline) ahead() bool {
	now := time.Now()
	return now.Before(d.monotonic) && now.Before(d.wall)
}

// Elected reports whether this replica owns the retries.
func (e *Election) Elected() bool { return e.elected.Load() }

// HoldsLease reports whether this replica is elected and its Lease has not run out. A suspended process may not know yet that
// another replica was elected.
func (e *Election) HoldsLease() bool { return e.Elected() && e.valid() }

// Begin reports whether this replica may begin an attempt that only the owner makes. Then the caller calls end once the attempt is
// recorded: the Lease is not released before.
func (e *Election) Begin() (end func(), ok bool) {
	if !e.HoldsLease() || !e.Reconciler.begin() {
		return nil, false
	}
	return e.Reconciler.attempts.Done, true
}

// Inherited returns when this replica took the retries over from one that did not release them, or the zero time.
func (e *Election) Inherited() time.Time { return e.Reconciler.inheritedAt() }

// valid reports whether the Lease is this replica's and has not run out, by this machine's clocks.
func (e *Election) valid() bool {
	until := e.validUntil.Load()
	return until != nil && until.ahead()
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: it is an election itself.
func (e *Election) NeedLeaderElection() bool { return false }

// Start takes part until ctx ends and the attempts in flight are recorded. Only then it releases the Lease, so that the
// next owner repeats none of them.
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

// term waits to be elected and returns when that is over.
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
		return fmt.Errorf("elect the owner of the retries: %w", err)
	}
	elector.Run(ctx)
	// Run ends without having been elected only when ctx has ended; lead then ends, too.
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}

// inherits reports whether a predecessor may have made attempts that are not on record: it has not released the Lease. A
// replica knows its own, but a container that was restarted has the name of the one before.
func (e *Election) inherits(predecessor string) bool {
	return predecessor != "" && (predecessor != e.Identity || !e.led)
}

func (e *Election) leaseDuration() time.Duration { return cmp.Or(e.LeaseDuration, 15*time.Second) }

func (e *Election) renewDeadline() time.Duration { return cmp.Or(e.RenewDeadline, 10*time.Second) }

// renewed says that the Lease was written by a request that began at a time.
func (e *Election) renewed(at time.Time) { e.validUntil.Store(deadlineAt(at.Add(e.leaseDuration()))) }

// lost says that the Lease is another's, or may be from now on.
func (e *Election) lost() { e.validUntil.Store(nil) }

// lead makes this replica the owner of the retries until ctx ends.
func (e *Election) lead(ctx context.Context) {
	e.elected.Store(true)
	defer e.elected.Store(false)
	e.Reconciler.wakeAll()
	e.Finished.Follow(ctx, func(key types.NamespacedName) {
		e.Reconciler.ReconcileFinished(key)
		e.Reconciler.Add(key)
	})
}
