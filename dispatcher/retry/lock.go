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
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// watchedLock reports changes of its Lease to an Election, which client-go's elector does not do in time. The elector
// leads until RenewDeadline although another replica holds the Lease, and acquires a deleted Lease although its holder
// lives.
type watchedLock struct {
	*resourcelock.LeaseLock

	election *Election
	// seen says that there was a Lease, holder who held it when it was last read or written; "" if nobody did.
	seen   bool
	holder string
	// goneSince is the time at which the Lease was first missing; zero while it exists.
	goneSince time.Time
	// predecessor is the holder of the Lease before this replica acquired it, or tried to, in this term; "" if it was released.
	predecessor atomic.Pointer[string]
}

// anybody stands for the holder of a Lease that may have changed hands before it was deleted.
const anybody = "not known"

// errMayBeHeld says that a Lease is gone whose holder may not know it yet.
var errMayBeHeld = errors.New("the Lease was deleted, and its holder may still count on it")

// Get implements resourcelock.Interface. The elector asks before it takes the Lease, and while it leads only when it
// could not renew it.
func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	switch {
	case err == nil:
		l.seen, l.holder, l.goneSince = true, record.HolderIdentity, time.Time{}
		if l.holder != l.election.Identity {
			l.predecessor.Store(nil)
			l.election.lost()
		}
	case apierrors.IsNotFound(err) && l.seen:
		if l.goneSince.IsZero() {
			l.goneSince = time.Now()
		}
		if !l.election.valid() {
			l.holder = anybody
		}
	}
	return record, raw, err
}

// Create implements resourcelock.Interface. The holder of a deleted Lease may have renewed it until its deletion was
// seen.
func (l *watchedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	if l.holder == anybody && began.Sub(l.goneSince) < l.election.leaseDuration() {
		return errMayBeHeld
	}
	return l.write(began, func() error { return l.LeaseLock.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *watchedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(time.Now(), func() error { return l.LeaseLock.Update(ctx, record) })
}

// write takes or renews the Lease, from a time on.
func (l *watchedLock) write(began time.Time, write func() error) error {
	// Before the write, because its answer may be lost.
	before := l.holder
	l.predecessor.CompareAndSwap(nil, &before)
	if err := write(); err != nil {
		return err
	}
	l.seen, l.holder, l.goneSince = true, l.election.Identity, time.Time{}
	l.election.renewed(began)
	return nil
}

// release releases the Lease if this replica holds it, after its attempts are recorded. The elector's own release would
// do so after any term, without reading the present holder.
func (l *watchedLock) release(ctx context.Context) error {
	l.election.lost()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.election.renewDeadline())
	defer cancel()
	for l.holder == l.election.Identity {
		record, _, err := l.Get(ctx)
		if err != nil {
			return err
		}
		if l.holder != l.election.Identity {
			break
		}
		now := metav1.Now()
		err = l.LeaseLock.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now, LeaderTransitions: record.LeaderTransitions,
		})
		if !apierrors.IsConflict(err) { // With a renewal that was on its way.
			return err
		}
	}
	return nil
}
