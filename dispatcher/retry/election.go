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
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// LeaseName is the Lease by which the replica that owns the retries is elected.
const LeaseName = "postback-dispatcher-retries"

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=postback-system

// Election takes part in the election of the replica that owns the retries. Losing it does not end the process, unlike
// the election of a controller-runtime manager: ingest and attempts in flight go on.
type Election struct {
	Client    kubernetes.Interface
	Namespace string
	// Identity of this replica, unique among them.
	Identity string
	// Finished finds the requests of redelivery that the cache does not show.
	Finished Finished
	// Reconciler and Wake are told what an elected replica has to do.
	Reconciler *Reconciler
	Wake       *Wake
	// LeaseDuration, RenewDeadline and RetryPeriod are those of client-go; zero means 15s, 10s and 2s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	elected atomic.Bool
	// validUntil is when the Lease runs out unless it is renewed, by this machine's clock.
	validUntil atomic.Pointer[time.Time]
}

// Elected reports whether this replica owns the retries.
func (e *Election) Elected() bool { return e.elected.Load() }

// Held reports whether the Lease is this replica's and has not run out, by this machine's clock. One that did not run for a
// while may not have noticed yet that another one was elected.
func (e *Election) Held() bool {
	until := e.validUntil.Load()
	return until != nil && time.Now().Before(*until)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: it is an election itself.
func (e *Election) NeedLeaderElection() bool { return false }

// Start takes part until ctx ends and the attempts in flight are recorded: only then is the Lease released, so that the
// next owner repeats none of them.
func (e *Election) Start(ctx context.Context) error {
	ctx = logf.IntoContext(ctx, logf.FromContext(ctx).WithName("election").WithValues("identity", e.Identity))
	drained, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	defer context.AfterFunc(ctx, func() {
		e.Reconciler.Drain()
		release()
	})()
	lock := &watchedLock{election: e, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.Namespace, Name: LeaseName},
		Client:     e.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
	}}
	for drained.Err() == nil {
		if err := e.term(drained, lock); err != nil {
			return err
		}
	}
	return nil
}

// term waits to be elected and returns when that is over.
func (e *Election) term(ctx context.Context, lock *watchedLock) error {
	log := logf.FromContext(ctx)
	over := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		Name:            LeaseName,
		ReleaseOnCancel: true,
		LeaseDuration:   e.leaseDuration(),
		RenewDeadline:   orDefault(e.RenewDeadline, 10*time.Second),
		RetryPeriod:     orDefault(e.RetryPeriod, 2*time.Second),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(over)
				predecessor := ptr.Deref(lock.predecessor.Load(), "")
				log.Info("Elected: this replica owns the retries", "predecessor", predecessor)
				if predecessor != "" {
					// It has not released the Lease, so it may have made attempts that are not on record.
					e.Reconciler.Inherit(time.Now())
				}
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

func (e *Election) leaseDuration() time.Duration { return orDefault(e.LeaseDuration, 15*time.Second) }

// renewed says that the Lease was written by a request that began at a time.
func (e *Election) renewed(at time.Time) {
	until := at.Add(e.leaseDuration())
	e.validUntil.Store(&until)
}

// lost says that the Lease is another's.
func (e *Election) lost() { e.validUntil.Store(nil) }

// watchedLock tells an Election what becomes of its Lease, which client-go's elector does not in time: it goes on to lead
// until RenewDeadline when somebody else holds the Lease, and takes one that was deleted although its holder lives.
type watchedLock struct {
	*resourcelock.LeaseLock

	election *Election
	// holder is who held the Lease when it was last read, at seenAt; "" if nobody did.
	holder string
	seenAt time.Time
	// predecessor is who held the Lease before this replica took it, or "" if it was released.
	predecessor atomic.Pointer[string]
}

// errMayBeHeld says that a Lease is gone whose holder may not know it yet.
var errMayBeHeld = errors.New("the Lease was deleted, and its holder may still count on it")

// Get implements resourcelock.Interface. The elector asks before it takes the Lease, and while it leads only when it
// could not renew it.
func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	switch {
	case err == nil:
		l.holder, l.seenAt = record.HolderIdentity, time.Now()
		l.predecessor.Store(&record.HolderIdentity)
		if l.holder != l.election.Identity {
			l.election.lost()
		}
	case apierrors.IsNotFound(err):
		l.predecessor.Store(ptr.To(l.holder))
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (l *watchedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	if l.holder != "" && l.holder != l.election.Identity && began.Sub(l.seenAt) < l.election.leaseDuration() {
		return errMayBeHeld
	}
	err := l.LeaseLock.Create(ctx, record)
	l.written(&record, began, err)
	return err
}

// Update implements resourcelock.Interface.
func (l *watchedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	err := l.LeaseLock.Update(ctx, record)
	l.written(&record, began, err)
	return err
}

// written takes in that a write of the Lease, which began at a time, ended with err.
func (l *watchedLock) written(record *resourcelock.LeaderElectionRecord, began time.Time, err error) {
	if err == nil {
		l.holder, l.seenAt = record.HolderIdentity, began
		l.election.renewed(began)
	}
}

// lead makes this replica the owner of the retries until ctx ends.
func (e *Election) lead(ctx context.Context) {
	e.elected.Store(true)
	defer e.elected.Store(false)
	if err := e.Wake.All(ctx); err != nil {
		// The cache answers from memory: it fails only while the process ends.
		logf.FromContext(ctx).Error(err, "Cannot list what is unfinished")
		return
	}
	e.Finished.Follow(ctx, func(key types.NamespacedName) {
		e.Reconciler.Request(key)
		e.Wake.Add(key)
	})
}

func orDefault(value, fallback time.Duration) time.Duration {
	if value == 0 {
		return fallback
	}
	return value
}
